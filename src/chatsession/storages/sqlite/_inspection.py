"""What people who look after the file want to know."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from chatsession.storages.inspection import Fact, HeldLock, size_text
from chatsession.storages.sqlite._holders import is_dead, is_gone
from chatsession.storages.sqlite._records import unescaped

_LARGE_LOG = 64 * 1024 * 1024
_SYNCHRONOUS = {
    0: "off",
    1: "normal: a power failure may undo the last commits (?synchronous=full in the URL flushes each one)",
    2: "full",
    3: "extra",
}


def locks(connection: sqlite3.Connection, prefix: str, limit: int, now: float) -> list[HeldLock]:
    """`ListsLocks.list_locks`."""
    rows = connection.execute(
        "SELECT l.key, l.token, l.until, h.identity, "
        "(SELECT count(*) FROM session_waiters AS w WHERE w.key = l.key AND w.until > :now) "
        "FROM session_locks AS l LEFT JOIN session_holders AS h ON h.id = l.holder WHERE l.until > :now ORDER BY l.key",
        {"now": now},
    )
    held: list[HeldLock] = []
    for key, token, until, identity, waiters in rows:
        name = unescaped(key)
        if name.startswith(prefix) and len(held) < limit:
            known = "" if identity is None else identity.decode()
            held.append(HeldLock(name, token, until, _process(known), None, waiters, is_dead(known)))
    return held


def expired(connection: sqlite3.Connection, now: float) -> int:
    """`CountsExpired.count_expired`."""
    return connection.execute("SELECT count(*) FROM sessions WHERE expires_at <= ?", (now,)).fetchone()[0]


def facts(connection: sqlite3.Connection, path: Path, now: float) -> list[Fact]:
    """`Tells.facts`."""
    pages, free, size, synchronous, log = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size", "synchronous", "journal_mode")
    )
    wal = _size(path.with_name(path.name + "-wal"))
    others = [
        name
        for identity, seen in connection.execute("SELECT identity, seen FROM session_holders")
        if not is_gone(identity.decode(), seen, now)
        and (name := _process(identity.decode())) != f"process {os.getpid()}"
    ]
    (schema,) = connection.execute("SELECT schema FROM chatsession").fetchone()
    return [
        Fact("SQLite", sqlite3.sqlite_version),
        Fact("schema of the tables", str(schema)),
        Fact("file", f"{size_text(pages * size)}, {size_text(free * size)} of it free"),
        Fact(
            "write-ahead log",
            size_text(wal),
            "some process reads for very long, so that it cannot be shortened" if wal > _LARGE_LOG else None,
        ),
        Fact("journal_mode", log.decode()),
        Fact("synchronous (this connection)", _SYNCHRONOUS[synchronous]),
        Fact("other processes with the file open", ", ".join(others) or "none"),
    ]


def _process(identity: str) -> str:
    parts = identity.split(" ")
    return f"process {parts[1]}" if len(parts) == 4 else "a process"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
