"""What is written down of a process at one moment, and how it is read from Linux."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Sample:
    """A row of the record, taken while no update is under way."""

    seconds: float
    """Since the beginning."""
    rss: int
    """Bytes."""
    blocks: int
    """Of memory that Python has given to objects."""
    fds: int
    sockets: int
    """Of the file descriptors: connections, as the client sees them."""
    threads: int
    tasks: int
    updates: int
    """Since the sample before."""
    p50: float
    """Milliseconds of an update."""
    p99: float
    lag: float
    """Milliseconds by which the loop was late, the worst of the time since the sample before."""
    cpu: float
    """Share of one core since the sample before."""
    errors: int
    """Since the beginning."""
    stored: int
    """Sessions in the storage; -1: not counted this time."""

    @staticmethod
    def heading() -> str:
        """The first line of the record."""
        return ",".join(field.name for field in fields(Sample))

    def line(self) -> str:
        """This sample as a line of the record."""
        return ",".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in asdict(self).values())


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    rss: int
    blocks: int
    fds: int
    sockets: int
    threads: int
    tasks: int


def held() -> Held:
    """Look at this process, from its event loop."""
    targets = [_target(path) for path in Path("/proc/self/fd").iterdir()]
    return Held(
        rss=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
        blocks=sys.getallocatedblocks(),
        fds=len(targets) - 1,  # one of them was the folder itself
        sockets=sum(target.startswith("socket:") for target in targets),
        threads=len(list(Path("/proc/self/task").iterdir())),
        tasks=len(asyncio.all_tasks()),
    )


class Lag:
    """Measures how late the event loop is."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.05)
            self.worst = max(self.worst, time.perf_counter() - begin - 0.05)

    def take(self) -> float:
        """The worst since the last call, in seconds."""
        worst, self.worst = self.worst, 0.0
        return worst


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of all lies; 0 of none."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""
