"""Which sessions a command is about."""

from __future__ import annotations

from chatsession.cli._screen import note
from chatsession.errors import shown
from chatsession.maintenance import Scope, scope_of
from chatsession.storages import Storage


async def scope(storage: Storage, prefix: str | None) -> Scope:
    """The sessions that `--prefix` names. Prints which other managers' sessions are left out."""
    found = await scope_of(storage, prefix)
    if found.others:
        others = ", ".join(shown(other) for other in sorted(found.others))
        note(f"left out: sessions of other managers, with the prefix {others}", "yellow")
    return found
