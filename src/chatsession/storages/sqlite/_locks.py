"""Leases and the queue of those who wait for them, as rows that all processes see."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence

from chatsession.storages.base import Lease, Locked, LockRequest
from chatsession.storages.sqlite._holders import can_tell, is_dead
from chatsession.storages.sqlite._records import escaped, listed, read, record, reserve

_WAITER_LIVES = 2.0
"""Seconds after its last try in which a waiter keeps its place; it tries every few milliseconds."""


def register(connection: sqlite3.Connection, identity: str) -> int:
    """Enter this process among the holders, and clear away those that died with all their locks."""
    for holder, other in connection.execute("SELECT id, identity FROM session_holders").fetchall():
        if is_dead(other.decode()):
            _bury(connection, holder)
    cursor = connection.execute("INSERT INTO session_holders (identity) VALUES (?)", (identity,))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def single_process(connection: sqlite3.Connection, holder: int) -> bool:
    """Is it certain that no other process uses the file?"""
    others = connection.execute("SELECT id, identity FROM session_holders WHERE id <> ?", (holder,)).fetchall()
    for other, identity in others:
        if not is_dead(identity.decode()):
            return False
        _bury(connection, other)
    return can_tell()


def unregister(connection: sqlite3.Connection, holder: int) -> None:
    """This process ends; whatever it still holds is free."""
    _bury(connection, holder)


def lock(
    connection: sqlite3.Connection, requests: Sequence[LockRequest], holder: int, now: float
) -> list[Locked | None]:
    """`Storage.lock_many`: most keys are free and awaited by nobody, and are taken in one go; then the others."""
    found = connection.execute(
        "SELECT s.value, s.version, s.expires_at, l.until, "
        "EXISTS (SELECT 1 FROM session_waiters AS w WHERE w.key = j.value) FROM json_each(?) AS j "
        "LEFT JOIN sessions AS s ON s.key = j.value LEFT JOIN session_locks AS l ON l.key = j.value ORDER BY j.key",
        (listed(request.key for request in requests),),
    ).fetchall()
    free = [not awaited and (until is None or until <= now) for _, _, _, until, awaited in found]
    tokens = iter(range(reserve(connection, sum(free)), sys.maxsize) if any(free) else ())
    results: list[Locked | None] = []
    for request, available, row in zip(requests, free, found, strict=True):
        if available:
            results.append(Locked(Lease(request.key, next(tokens)), record(row[:3], now)))
        else:
            results.append(_lock_or_queue(connection, request, holder, now))
    connection.executemany(
        _TAKE,
        [
            (escaped(request.key), locked.lease.token, now + request.seconds, holder)
            for request, available, locked in zip(requests, free, results, strict=True)
            if available and locked is not None
        ],
    )
    return results


def renew(connection: sqlite3.Connection, leases: Sequence[Lease], seconds: float, now: float) -> list[bool]:
    """`Storage.renew_many`."""
    return [
        connection.execute(
            "UPDATE session_locks SET until = ? WHERE key = ? AND token = ? AND until > ?",
            (now + seconds, escaped(lease.key), lease.token, now),
        ).rowcount
        == 1
        for lease in leases
    ]


def abandon(connection: sqlite3.Connection, requests: Sequence[LockRequest]) -> None:
    """`Storage.abandon_many`."""
    connection.executemany(
        "DELETE FROM session_waiters WHERE key = ? AND waiter = ?",
        [(escaped(request.key), request.waiter) for request in requests],
    )


def tidy(connection: sqlite3.Connection, now: float) -> None:
    """Forget leases that ran out, and waiters that are gone, of keys for which nobody came again."""
    connection.execute("DELETE FROM session_locks WHERE until <= ?", (now,))
    connection.execute("DELETE FROM session_waiters WHERE until <= ?", (now,))


_TAKE = (
    "INSERT INTO session_locks (key, token, until, holder) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET token = excluded.token, until = excluded.until, holder = excluded.holder"
)


def _lock_or_queue(connection: sqlite3.Connection, request: LockRequest, holder: int, now: float) -> Locked | None:
    """Take a key that is held or awaited if this request is the first in its queue, else keep its place there."""
    key = escaped(request.key)
    connection.execute("DELETE FROM session_waiters WHERE key = ? AND until <= ?", (key, now))
    connection.execute(
        "INSERT INTO session_waiters (key, waiter, until) VALUES (?, ?, ?) "
        "ON CONFLICT (key, waiter) DO UPDATE SET until = excluded.until WHERE until < ?",
        (key, request.waiter, now + _WAITER_LIVES, now + _WAITER_LIVES / 2),
    )
    (first,) = connection.execute(
        "SELECT waiter FROM session_waiters WHERE key = ? ORDER BY ticket LIMIT 1", (key,)
    ).fetchone()
    if first.decode() != request.waiter or _is_held(connection, key, now):
        return None
    abandon(connection, [request])
    token = reserve(connection, 1)
    connection.execute(_TAKE, (key, token, now + request.seconds, holder))
    return Locked(Lease(request.key, token), read(connection, [request.key], now)[0])


def _is_held(connection: sqlite3.Connection, key: str, now: float) -> bool:
    held = connection.execute(
        "SELECT l.until, h.id, h.identity FROM session_locks AS l "
        "LEFT JOIN session_holders AS h ON h.id = l.holder WHERE l.key = ?",
        (key,),
    ).fetchone()
    if held is None or held[0] <= now:
        return False
    _, holder, identity = held
    if identity is None or not is_dead(identity.decode()):
        return True
    _bury(connection, holder)
    return False


def _bury(connection: sqlite3.Connection, holder: int) -> None:
    connection.execute("DELETE FROM session_locks WHERE holder = ?", (holder,))
    connection.execute("DELETE FROM session_holders WHERE id = ?", (holder,))
