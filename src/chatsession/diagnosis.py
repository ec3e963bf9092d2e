"""Finds stored sessions with problems: undecodable, torn, orphaned, set aside or expired."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from chatsession.contents import LARGEST, is_json
from chatsession.errors import SessionError
from chatsession.maintenance import Scope, pages, scope_of, set_aside
from chatsession.manager import SessionManager
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, decompress
from chatsession.serialization.encryption import SEALED
from chatsession.serialization.envelope import MARK, looks_enveloped, unwrap
from chatsession.storages import Record, Storage
from chatsession.storages.inspection import ListsLocks, ListsUnreadable

Trouble = Literal["undecodable", "torn", "expired", "orphaned", "quarantined"]

_MOST_LOCKS = 10_000
_MOST_UNREADABLE = 1000


class Finding(NamedTuple):
    """A problem. `why` holds no session data."""

    key: str
    trouble: Trouble
    why: str


async def examine_all(
    storage: Storage, scope: Scope, manager: SessionManager[Any] | None = None
) -> AsyncGenerator[tuple[int, list[Finding]]]:
    """Examine stored sessions, page by page.

    Args:
        storage: only read.
        scope: which sessions.
        manager: decodes its own sessions, with its type, migrations and encryption keys.

    Returns:
        For each page, the number of its sessions and their problems. The last page is about other things than
        sessions: data that was set aside, locks of dead holders, unreadable files.
    """
    own = Scope() if manager is None else await scope_of(storage, manager.runtime.prefix)
    async for entries, _ in pages(storage, scope):
        now = storage.now()
        examined = (examine(key, record.value, manager if own.covers(key) else None, now) for key, record in entries)
        found = [finding for finding in examined if finding is not None]
        yield len(entries), found + await _moved_to_nothing(storage, entries)
    yield 0, await _beside_sessions(storage, scope)


def examine(key: str, value: bytes, manager: SessionManager[Any] | None, now: float) -> Finding | None:
    """Examine one session.

    Args:
        key: its key.
        value: what is stored.
        manager: its manager, which decodes it; `None`: only check the form.
        now: Unix time.
    """
    if not value:
        return Finding(key, "torn", "it is empty")
    return _by_form(key, value, now) if manager is None else _by_manager(key, value, manager)


async def _moved_to_nothing(storage: Storage, entries: Sequence[tuple[str, Record]]) -> list[Finding]:
    moves = {key: target for key, record in entries if (target := _moved_to(record.value)) is not None}
    if not moves:
        return []
    targets = list(dict.fromkeys(moves.values()))
    stored = dict(zip(targets, await storage.read_many(targets), strict=True))
    why = "its chat has moved, and there is no session under the new key; rm it if the chat is gone"
    return [Finding(key, "orphaned", why) for key, target in moves.items() if stored[target] is None]


async def _beside_sessions(storage: Storage, scope: Scope) -> list[Finding]:
    found = [Finding(key, "quarantined", why) async for key, why in set_aside(storage, scope)]
    if isinstance(storage, ListsLocks):
        found += [
            Finding(lock.key, "orphaned", f"its lock is held by {lock.holder}, which is dead; the next update gets it")
            for lock in await storage.list_locks(scope.prefix, _MOST_LOCKS)
            if lock.dead and scope.covers(lock.key)
        ]
    if isinstance(storage, ListsUnreadable):
        unreadable = await storage.list_unreadable(_MOST_UNREADABLE)
        found += [Finding(fact.name, "torn", fact.value) for fact in unreadable]
    return found


def _moved_to(value: bytes) -> str | None:
    """The key to which a session has moved, if it has."""
    try:
        found = unwrap(value, json=True) if looks_enveloped(value) else None
    except CodecError:
        return None
    moved = None if found is None else found[0].moved_to
    return None if moved is UNSET or not moved else moved


def _by_manager(key: str, value: bytes, manager: SessionManager[Any]) -> Finding | None:
    serializer = manager.runtime.serializer
    try:
        unpacked = serializer.unpack(key, value)
        if unpacked is None or not unpacked.empty:
            serializer.loads(key, value if unpacked is None else unpacked.data)
    except SessionError as error:
        return Finding(key, "undecodable", str(error))
    return None


def _by_form(key: str, value: bytes, now: float) -> Finding | None:
    if value.startswith(SEALED):
        return None  # only its manager can tell
    if value.startswith(COMPRESSED):
        try:
            value = decompress(value, LARGEST)
        except ImportError:
            return None
        except CodecError as error:
            return Finding(key, "torn", str(error))
    if is_json(value):
        return _by_envelope(key, value, now)
    if value.startswith(MARK):
        return None  # of another codec
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            return Finding(key, "torn", "it is the beginning of some JSON")
    except (UnicodeDecodeError, RecursionError):
        pass
    return Finding(key, "undecodable", "it is not JSON; if it is of a codec of yours, name the manager by --sessions")


def _by_envelope(key: str, value: bytes, now: float) -> Finding | None:
    found = unwrap(value, json=True) if looks_enveloped(value) else None
    expires = None if found is None else found[0].expires
    if isinstance(expires, (int, float)) and expires <= now * 1000:
        return Finding(key, "expired", "its envelope says so; it is deleted when it is next used, or by rm")
    return None
