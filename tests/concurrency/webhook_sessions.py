"""The sessions of the bot behind a webhook."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from chatsession import SessionManager


class Options(msgspec.Struct, kw_only=True, frozen=True):
    url: str
    prefix: str
    lock_lease: float
    deduplicate: int


@dataclass
class Tally:
    """How many updates changed the session, and which."""

    count: int = 0
    by: list[int] = field(default_factory=list)


def manager(options: Options) -> SessionManager[Tally]:
    return SessionManager(
        Tally,
        storage=options.url,
        prefix=options.prefix,
        lock_lease=options.lock_lease,
        deduplicate=options.deduplicate,
    )
