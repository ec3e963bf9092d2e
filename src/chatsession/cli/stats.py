"""`stats`: how many sessions there are, how large, and which stand out; in one pass, with constant memory."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Annotated, TypeAlias

import typer
from rich.text import Text

from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._progress import progress, total_of
from chatsession.cli._running import command, opened
from chatsession.cli._scope import scope
from chatsession.cli._screen import counted, emit, out, remaining, safe, say
from chatsession.errors import shown
from chatsession.maintenance import pages
from chatsession.storages import Record
from chatsession.storages.inspection import size_text

Ranked: TypeAlias = tuple[float, str]
"""How far a session stands out, and its key."""

_BAR = 40


class Stats:
    """What is gathered.

    Args:
        top: how many of those that stand out are named.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self.sessions = 0
        self.bytes = 0
        self.expiring = 0
        self.sizes: Counter[int] = Counter()
        """By the power of two that is just not smaller."""
        self._largest: list[Ranked] = []
        self._soonest: list[Ranked] = []
        self._oldest: list[Ranked] = []

    def add(self, key: str, record: Record) -> None:
        """Count one session."""
        length = len(record.value)
        self.sessions += 1
        self.bytes += length
        self.sizes[max(length - 1, 0).bit_length()] += 1
        self._rank(self._largest, length, key)
        if record.expires_at is not None:
            self.expiring += 1
            self._rank(self._soonest, -record.expires_at, key)
        if isinstance(record.version, int):  # these storages number all commits, so that the lowest is the oldest
            self._rank(self._oldest, -record.version, key)

    @property
    def largest(self) -> list[Ranked]:
        return sorted(self._largest, reverse=True)

    @property
    def soonest(self) -> list[Ranked]:
        """By the moment at which they expire."""
        return sorted((-at, key) for at, key in self._soonest)

    @property
    def oldest(self) -> list[Ranked]:
        """By the number of their last commit; none where the storage keeps no such order."""
        return sorted((-number, key) for number, key in self._oldest)

    def _rank(self, heap: list[Ranked], by: float, key: str) -> None:
        if len(heap) < self._top:
            heapq.heappush(heap, (by, key))
        elif heap and by > heap[0][0]:
            heapq.heapreplace(heap, (by, key))


@command
async def stats(
    url: Url,
    prefix: Prefix = None,
    top: Annotated[int, typer.Option("--top", min=0, help="How many of the largest, … to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Count sessions and their sizes; name the largest, the longest unchanged, and those that end next."""
    found = Stats(top)
    async with opened(url) as storage:
        covered = await scope(storage, prefix)
        with progress("looking", await total_of(storage, covered)) as show:
            async for entries, _ in pages(storage, covered):
                for key, record in entries:
                    found.add(key, record)
                show(found.sessions)
        now = storage.now()
    if as_json:
        _emit(found)
    else:
        _show(found, now)


def _show(found: Stats, now: float) -> None:
    average = found.bytes / found.sessions if found.sessions else 0
    say(f"{counted(found.sessions, 'session')}, {size_text(found.bytes)}, {size_text(average)} each on average", "bold")
    say(f"with a time to live: {found.expiring:,}")
    _plot(found.sizes)
    _name("largest", [(size_text(length), key) for length, key in found.largest])
    _name("longest unchanged", [("", key) for _, key in found.oldest])
    _name("next to expire", [(remaining(at, now), key) for at, key in found.soonest])


def _plot(sizes: Counter[int]) -> None:
    if not sizes:
        return
    say()
    most = max(sizes.values())
    for power in range(min(sizes), max(sizes) + 1):
        count = sizes[power]
        bar = "█" * max(round(_BAR * count / most), 1 if count else 0)
        line = Text(f"{'≤ ' + size_text(2**power):>12} ")
        line.append(f"{bar:<{_BAR}}", style="cyan")
        line.append(f" {count:,}")
        out.print(line)


def _name(what: str, ranked: list[tuple[str, str]]) -> None:
    if not ranked:
        return
    say(f"\n{what}", "bold")
    for by, key in ranked:
        say(f"  {by:>9}  {safe(shown(key))}" if by else f"  {safe(shown(key))}")


def _emit(found: Stats) -> None:
    emit(
        {
            "sessions": found.sessions,
            "bytes": found.bytes,
            "expiring": found.expiring,
            "sizes": [{"up_to": 2**power, "sessions": count} for power, count in sorted(found.sizes.items())],
            "largest": [{"key": key, "size": length} for length, key in found.largest],
            "oldest": [{"key": key} for _, key in found.oldest],
            "next_to_expire": [{"key": key, "expires_at": at} for at, key in found.soonest],
        }
    )
