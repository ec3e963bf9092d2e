"""Whether the process that holds a lock is still there: a lease need not run out after a crash on this machine."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def my_identity(instance: str) -> str:
    """Names this process for other processes of this machine, for ever.

    Two processes compare each other only within the same boot of the same kernel and the same PID namespace: a
    process in another container looks neither alive nor dead.
    """
    world = _world()
    return f"{world} {os.getpid()} {_started(os.getpid())} {instance}" if world else f"? {instance}"


def can_tell() -> bool:
    """Can other processes tell at once that this one has died?"""
    return bool(_world())


def is_dead(identity: str) -> bool:
    """Is it certain that this process is gone? In doubt it is alive, and its leases run out by themselves."""
    parts = identity.split(" ")
    world = _world()
    if len(parts) != 4 or not world or parts[0] != world:
        return False
    return _started(int(parts[1])) != parts[2]


@cache
def _world() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot: tells it from a later one of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
