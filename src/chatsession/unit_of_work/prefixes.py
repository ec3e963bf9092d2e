"""Which sessions in a storage belong to which manager.

Each manager with a prefix writes it down in the storage once, under a key of its own. Whoever enumerates the sessions
of another prefix, or of none, leaves out those whose key begins with a longer prefix that is written down: from the
command line, too, and in other programs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from chatsession.coordination.coordinator import Coordinator
from chatsession.errors import SessionConflictError, StorageError, StorageUnavailableError
from chatsession.storages import Action, Change, Storage

_log = logging.getLogger("chatsession")

PREFIXES = "!prefix:"
"""Begins the keys under which prefixes are written down."""

_PAGE = 500


async def write_down(coordinator: Coordinator, prefix: str) -> None:
    """Let others know that keys with this prefix have a manager of their own.

    A user of the storage who may not do that is no reason to refuse sessions; the log says so.
    """
    key = PREFIXES + prefix
    try:
        if await coordinator.read(key) is None:
            with contextlib.suppress(SessionConflictError):  # another process has just done it
                await coordinator.commit(Change(key, Action.PUT, b"{}", None))
    except StorageUnavailableError:
        raise
    except StorageError as error:
        _log.warning(
            "the prefix %r could not be noted in the storage, so that managers without a prefix, or with a shorter "
            "one, take its sessions for theirs when they enumerate: %s",
            prefix,
            error,
        )


async def longer_prefixes(storage: Storage, prefix: str) -> tuple[str, ...]:
    """The prefixes of other managers that begin with this one."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        keys, cursor = await storage.scan_keys(PREFIXES + prefix, cursor, _PAGE)
        found += [key.removeprefix(PREFIXES) for key in keys]
        if cursor is None:
            return tuple(other for other in found if other != prefix)


def is_foreign(key: str, others: Sequence[str]) -> bool:
    """Whether a key belongs to a manager with one of these prefixes."""
    return bool(others) and key.startswith(tuple(others))
