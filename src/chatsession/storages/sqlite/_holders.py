"""The processes that use the file, and whether one that holds a lock is gone: its lease need not run out then."""

from __future__ import annotations

import os
import secrets
import sqlite3
from functools import cache
from pathlib import Path

_HEARTBEAT = 20.0
"""Seconds between two notes of a process that it is still there."""
_LONGEST_SILENCE = 300.0
"""Seconds without such a note after which a process of another container counts as gone."""


class Holder:
    """This process among the holders of locks."""

    def __init__(self) -> None:
        self.id = 0
        self._identity = ""
        self._noted = 0.0

    def register(self, connection: sqlite3.Connection, now: float) -> None:
        """Enter this process, and remove those that are gone."""
        self._identity = _my_identity(secrets.token_hex(8))
        remove_gone(connection, self.id, now)
        self._insert(connection, now)

    def unregister(self, connection: sqlite3.Connection) -> None:
        """Remove this process, and release whatever it still holds."""
        remove(connection, self.id)

    def note_alive(self, connection: sqlite3.Connection, now: float) -> None:
        """Tell processes of other containers, from time to time, that this one is still there."""
        if abs(now - self._noted) < _HEARTBEAT:
            return
        updated = connection.execute(
            "UPDATE session_holders SET seen = ? WHERE id = ? AND identity = ?", (now, self.id, self._identity)
        ).rowcount
        self._noted = now
        if not updated:  # another process took this one for gone
            self._insert(connection, now)

    def _insert(self, connection: sqlite3.Connection, now: float) -> None:
        cursor = connection.execute("INSERT INTO session_holders (identity, seen) VALUES (?, ?)", (self._identity, now))
        assert cursor.lastrowid is not None
        self.id, self._noted = cursor.lastrowid, now


def is_single_process(connection: sqlite3.Connection, mine: int, now: float) -> bool:
    """Whether it is certain that no other process uses the file."""
    return _can_tell() and remove_gone(connection, mine, now) == 0


def remove_gone(connection: sqlite3.Connection, mine: int, now: float) -> int:
    """Remove other processes that are gone; returns how many are left."""
    others = connection.execute("SELECT id, identity, seen FROM session_holders WHERE id <> ?", (mine,)).fetchall()
    left = 0
    for holder, identity, seen in others:
        if is_dead(identity.decode()):
            remove(connection, holder)
        elif not _is_missing(identity.decode(), seen, now) or not _remove_without_leases(connection, holder, now):
            left += 1
    return left


def remove(connection: sqlite3.Connection, holder: int) -> None:
    """Remove a process and all its locks."""
    connection.execute("DELETE FROM session_locks WHERE holder = ?", (holder,))
    connection.execute("DELETE FROM session_holders WHERE id = ?", (holder,))


def is_dead(identity: str) -> bool:
    """Whether it is certain that this process is gone. If not, its leases run out by themselves.

    Two processes can be compared only within the same boot of the same kernel and the same PID namespace.
    """
    parts = identity.split(" ")
    world = _world()
    if len(parts) != 4 or not world or parts[0] != world:
        return False
    started = _started(int(parts[1]))
    return started is not None and started != parts[2]


def is_gone(identity: str, seen: float | None, now: float) -> bool:
    """Whether this process is dead, or has been silent for long."""
    return is_dead(identity) or _is_missing(identity, seen, now)


def _is_missing(identity: str, seen: float | None, now: float) -> bool:
    """Whether a process that cannot be looked at seems to be gone.

    It keeps its locks until their leases end. If it is there all the same, it enters itself again.
    """
    world, mine = identity.partition(" ")[0], _world()
    if mine and world == mine:
        return False
    if mine and world != "?" and world.partition("/")[0] != mine.partition("/")[0]:
        return True  # from before this machine was started
    return seen is None or abs(now - seen) > _LONGEST_SILENCE


def _remove_without_leases(connection: sqlite3.Connection, holder: int, now: float) -> bool:
    """Remove a process unless it holds a lock; returns whether it was removed."""
    return bool(
        connection.execute(
            "DELETE FROM session_holders WHERE id = :holder AND NOT EXISTS (SELECT 1 FROM session_locks "
            "WHERE holder = :holder AND until > :now AND (seconds IS NULL OR until <= :now + seconds))",
            {"holder": holder, "now": now},
        ).rowcount
    )


def _my_identity(instance: str) -> str:
    """Names this process for other processes of this machine, for ever."""
    world = _world()
    return f"{world} {os.getpid()} {_started(os.getpid())} {instance}" if world else f"? {instance}"


def _can_tell() -> bool:
    """Whether other processes can tell at once that this one has died."""
    return bool(_world())


@cache
def _world() -> str:
    """The boot of the kernel and the PID namespace that this process runs in; empty where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in clock ticks since boot, which tells it from a later one with the same number.

    Returns:
        The time; an empty string if there is certainly no such process; `None` if it is there and cannot be looked at
        (`/proc` is mounted with `hidepid`, and it is another user's).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if _exists(pid) else ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True
