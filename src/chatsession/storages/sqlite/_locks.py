"""Leases and the queues of their waiters, as rows that all processes see.

SQLite cannot send messages to other processes, so a waiter is not woken but asks again every few
milliseconds (`Storage.wait_unlocked`).
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence

from chatsession.storages.base import Lease, Locked, LockRequest
from chatsession.storages.sqlite._holders import Holder, is_dead, remove
from chatsession.storages.sqlite._records import escaped, listed, read, record, reserve

_WAITER_LIVES = 2.0
"""Seconds for which a waiter keeps its place after its last try; it tries every few milliseconds."""


def lock(
    connection: sqlite3.Connection, requests: Sequence[LockRequest], process: Holder, now: float
) -> list[Locked | None]:
    """`Storage.lock_many`: takes the keys that are free and have no waiters in one go, then looks at the others."""
    holder = process.id  # another one since the last call if a process has removed this one
    found = connection.execute(
        "SELECT s.value, s.version, s.expires_at, l.until, "
        "EXISTS (SELECT 1 FROM session_waiters AS w WHERE w.key = j.value) FROM json_each(?) AS j "
        "LEFT JOIN sessions AS s ON s.key = j.value LEFT JOIN session_locks AS l ON l.key = j.value ORDER BY j.key",
        (listed(request.key for request in requests),),
    ).fetchall()
    free = [not awaited and (until is None or until <= now) for _, _, _, until, awaited in found]
    tokens = iter(range(reserve(connection, sum(free), now), sys.maxsize) if any(free) else ())
    results: list[Locked | None] = []
    for request, available, row in zip(requests, free, found, strict=True):
        if available:
            results.append(Locked(Lease(request.key, next(tokens)), record(row[:3], now)))
        else:
            results.append(_lock_or_queue(connection, request, holder, now))
    connection.executemany(
        _TAKE,
        [
            (escaped(request.key), locked.lease.token, now + request.seconds, request.seconds, holder, request.waiter)
            for request, available, locked in zip(requests, free, results, strict=True)
            if available and locked is not None
        ],
    )
    return results


def renew(connection: sqlite3.Connection, leases: Sequence[Lease], seconds: float, now: float) -> list[bool]:
    """`Storage.renew_many`."""
    return [
        connection.execute(
            "UPDATE session_locks SET until = ?, seconds = ? WHERE key = ? AND token = ? AND until > ?",
            (now + seconds, seconds, escaped(lease.key), lease.token, now),
        ).rowcount
        == 1
        for lease in leases
    ]


def abandon(connection: sqlite3.Connection, requests: Sequence[LockRequest], _: float) -> None:
    """`Storage.abandon_many`."""
    abandoned = [(escaped(request.key), request.waiter) for request in requests]
    connection.executemany("DELETE FROM session_waiters WHERE key = ? AND waiter = ?", abandoned)
    connection.executemany("DELETE FROM session_locks WHERE key = ? AND waiter = ?", abandoned)


def tidy(connection: sqlite3.Connection, now: float) -> None:
    """Delete expired leases and abandoned waiters of keys that were not requested again."""
    connection.execute("DELETE FROM session_locks WHERE until <= ?", (now,))
    connection.execute("DELETE FROM session_waiters WHERE until NOT BETWEEN ? AND ?", (now, now + 2 * _WAITER_LIVES))


_TAKE = (
    "INSERT INTO session_locks (key, token, until, seconds, holder, waiter) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET token = excluded.token, until = excluded.until, seconds = excluded.seconds, "
    "holder = excluded.holder, waiter = excluded.waiter"
)


def _lock_or_queue(connection: sqlite3.Connection, request: LockRequest, holder: int, now: float) -> Locked | None:
    """Take a key that is held or has waiters if this request is the first in its queue, else keep its place there."""
    key = escaped(request.key)
    connection.execute(  # abandoned waiters, and those to which a wrong clock gave too much time
        "DELETE FROM session_waiters WHERE key = ? AND until NOT BETWEEN ? AND ?", (key, now, now + 2 * _WAITER_LIVES)
    )
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
    connection.execute("DELETE FROM session_waiters WHERE key = ? AND waiter = ?", (key, request.waiter))
    token = reserve(connection, 1, now)
    connection.execute(_TAKE, (key, token, now + request.seconds, request.seconds, holder, request.waiter))
    return Locked(Lease(request.key, token), read(connection, [request.key], now)[0])


def _is_held(connection: sqlite3.Connection, key: str, now: float) -> bool:
    held = connection.execute(
        "SELECT l.until, l.seconds, h.id, h.identity FROM session_locks AS l "
        "LEFT JOIN session_holders AS h ON h.id = l.holder WHERE l.key = ?",
        (key,),
    ).fetchone()
    if held is None or held[0] <= now:
        return False
    until, seconds, holder, identity = held
    if identity is not None and is_dead(identity.decode()):
        remove(connection, holder)
        return False
    if seconds is not None and until > now + seconds:  # the clock was set back: no lease ends later than that
        connection.execute("UPDATE session_locks SET until = ? WHERE key = ?", (now + seconds, key))
    return True
