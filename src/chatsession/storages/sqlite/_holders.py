"""The processes that use the file. The locks of a dead one are free before their leases end."""

from __future__ import annotations

import os
import secrets
import sqlite3
from functools import cache
from pathlib import Path

_HEARTBEAT = 20.0
"""Seconds between two signs of life of a process."""
_LONGEST_SILENCE = 300.0
"""Seconds without a sign of life after which a process of another container counts as gone."""

_instances: set[str] = set()
"""Of this process. After `os.execv`, those of the program before have its id and its start."""


class Holder:
    """This process among the holders of locks."""

    def __init__(self) -> None:
        self.id = 0
        self._identity = ""
        self._noted = 0.0

    def register(self, connection: sqlite3.Connection, now: float) -> None:
        """Register this process, and remove those that are gone."""
        instance = secrets.token_hex(8)
        _instances.add(instance)
        self._identity = _my_identity(instance)
        remove_gone(connection, self.id, now)
        self._insert(connection, now)

    def unregister(self, connection: sqlite3.Connection) -> None:
        """Remove this process, and release whatever it still holds."""
        remove(connection, self.id)

    def note_alive(self, connection: sqlite3.Connection, now: float) -> None:
        """Show processes of other containers periodically that this one is alive."""
        if abs(now - self._noted) < _HEARTBEAT:
            return
        updated = connection.execute(
            "UPDATE session_holders SET seen = ? WHERE id = ? AND identity = ?", (now, self.id, self._identity)
        ).rowcount
        self._noted = now
        if not updated:  # another process has removed this one as gone
            self._insert(connection, now)

    def _insert(self, connection: sqlite3.Connection, now: float) -> None:
        cursor = connection.execute("INSERT INTO session_holders (identity, seen) VALUES (?, ?)", (self._identity, now))
        assert cursor.lastrowid is not None
        self.id, self._noted = cursor.lastrowid, now


def is_single_process(connection: sqlite3.Connection, mine: int, now: float) -> bool:
    """Whether it is certain that no other process uses the file."""
    return _can_tell() and remove_gone(connection, mine, now) == 0


def remove_gone(connection: sqlite3.Connection, mine: int, now: float) -> int:
    """Remove other processes that are gone. Returns how many are left."""
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
    """Whether it is certain that a process is gone. If it is not certain, its leases must expire.

    Two processes can be compared only within the same boot of the same kernel and the same PID namespace.
    """
    parts = identity.split(" ")
    world = _world()
    if len(parts) != 4 or not world or parts[0] != world:
        return False
    pid, start, instance = int(parts[1]), parts[2], parts[3]
    if pid == os.getpid() and instance not in _instances:
        return True
    started = _started(pid)
    return started is not None and started != start


def is_gone(identity: str, seen: float | None, now: float) -> bool:
    """Whether a process is dead, or has shown no sign of life for long."""
    return is_dead(identity) or _is_missing(identity, seen, now)


def _is_missing(identity: str, seen: float | None, now: float) -> bool:
    """Whether a process that cannot be examined seems to be gone.

    It keeps its locks until their leases end. If it is alive after all, it registers itself again.
    """
    world, mine = identity.partition(" ")[0], _world()
    if mine and world == mine:
        return False
    if mine and world != "?" and world.partition("/")[0] != mine.partition("/")[0]:
        return True  # from before this machine was started
    return seen is None or abs(now - seen) > _LONGEST_SILENCE


def _remove_without_leases(connection: sqlite3.Connection, holder: int, now: float) -> bool:
    """Remove a process unless it holds a lock. Returns whether it was removed."""
    return bool(
        connection.execute(
            "DELETE FROM session_holders WHERE id = :holder AND NOT EXISTS (SELECT 1 FROM session_locks "
            "WHERE holder = :holder AND until > :now AND (seconds IS NULL OR until <= :now + seconds))",
            {"holder": holder, "now": now},
        ).rowcount
    )


def _my_identity(instance: str) -> str:
    """A name of this process that no other process of this machine ever has."""
    world = _world()
    return f"{world} {os.getpid()} {_started(os.getpid())} {instance}" if world else f"? {instance}"


def _can_tell() -> bool:
    """Whether other processes can detect immediately that this one has died."""
    return bool(_world())


@cache
def _world() -> str:
    """The boot of the kernel and the PID namespace that this process runs in; empty where that is unknown."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # /proc shows the processes of another namespace
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str | None:
    """The start of a process, in clock ticks since boot, which distinguishes it from a later one with the same id.

    Returns:
        The time; an empty string if there is certainly no such process; `None` if it exists but cannot be examined
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
