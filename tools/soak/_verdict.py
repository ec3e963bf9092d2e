"""From a record to a verdict: is it flat?"""

from __future__ import annotations

import csv
import gzip
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_GROWTH = 2.0
"""MiB per hour that a process's memory may grow over the last three quarters of a run."""
_KINDS = ("fds", "sockets", "threads", "tasks")
POOLS = {"file": {"threads": 9}, "mongo": {"threads": 1 + min(32, (os.cpu_count() or 1) + 4)}}
"""What a pool may fill up to at any time: the file storage has eight threads, and pymongo looks up the host of each new
connection in the event loop's default pool."""

Columns = dict[str, list[float]]


@dataclass(frozen=True)
class Grown:
    """How one thing went: near the beginning of the judged time and at its end."""

    start: float
    end: float
    flat: bool


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one storage's run."""

    memory: Grown
    """MiB."""
    slope: float
    """MiB per hour."""
    constant: dict[str, Grown]
    """File descriptors, sockets, threads, tasks, and connections at the server."""
    stored: Grown
    size: Grown
    """Bytes of what is stored, as the server or the disk has it."""
    p50: tuple[float, float]
    p99: tuple[float, float]
    updates: int
    errors: int

    @property
    def is_flat(self) -> bool:
        """All of it is."""
        return self.errors == 0 and all(each.flat for each in (self.memory, self.stored, *self.constant.values()))

    @property
    def grew(self) -> list[str]:
        """The names of what was not flat."""
        named = {"memory": self.memory, "stored": self.stored, **self.constant}
        return [name for name, each in named.items() if not each.flat]


def columns(path: Path) -> Columns:
    """Read a record, packed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def judge(record: Columns, server: Columns, pools: Mapping[str, int] | None = None) -> Verdict:
    """Judge a run by its last three quarters; the first is for caches, pools and the sessions that expire to fill up.

    Memory is flat if a line through it climbs by less than `MOST_GROWTH`; what is counted is flat if its median in the
    last third of that time is not above that in the first; the number of sessions is, if its mean in the last third is
    at most a tenth above that in the first.

    Args:
        record: of the process.
        server: what the server told.
        pools: what may grow up to so many (see `POOLS`).
    """
    room = pools or {}
    late = _after(record, 0.25)
    slope = statistics.linear_regression([s / 3600 for s in late["seconds"]], [b / 2**20 for b in late["rss"]]).slope
    memory = [value / 2**20 for value in late["rss"]]
    told = _after(server, 0.25)
    counted = {name: _no_more(late[name], room.get(name, 0)) for name in _KINDS}
    if max(told["connections"]) >= 0:
        counted["connections"] = _no_more(told["connections"], 0)
    return Verdict(
        memory=Grown(_mean(_thirds(memory)[0]), _mean(_thirds(memory)[2]), slope <= MOST_GROWTH),
        slope=slope,
        constant=counted,
        stored=_level([count for count in late["stored"] if count >= 0]),
        size=_level(told["size"]),
        p50=_first_and_last(late["p50"]),
        p99=_first_and_last(late["p99"]),
        updates=int(sum(record["updates"])),
        errors=int(record["errors"][-1]),
    )


def _after(record: Columns, share: float) -> Columns:
    begin = int(len(record["seconds"]) * share)
    return {name: values[begin:] for name, values in record.items()}


def _thirds(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    third = max(len(values) // 3, 1)
    return values[:third], values[third:-third], values[-third:]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _no_more(values: Sequence[float], room: int) -> Grown:
    first, _, last = _thirds(values)
    begin, end = statistics.median(first), statistics.median(last)
    return Grown(begin, end, end <= max(begin, room))


def _level(values: Sequence[float]) -> Grown:
    first, _, last = _thirds(values)
    return Grown(_mean(first), _mean(last), _mean(last) <= 1.1 * _mean(first))


def _first_and_last(values: Sequence[float]) -> tuple[float, float]:
    first, _, last = _thirds(values)
    return statistics.median(first), statistics.median(last)
