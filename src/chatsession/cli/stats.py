"""`stats`: how many sessions there are, how large, and which stand out; in one pass, with constant memory."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.text import Text

from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._progress import progress, total_of
from chatsession.cli._running import command
from chatsession.cli._screen import counted, emit, out, remaining, say
from chatsession.cli._storage import opened, scope
from chatsession.errors import shown
from chatsession.maintenance import pages
from chatsession.statistics import Statistics
from chatsession.storages.inspection import size_text

_WIDEST_BAR = 40
_BESIDE_BAR = 24
"""Characters of the size and the number beside a bar."""


@command
async def stats(
    url: Url,
    prefix: Prefix = None,
    top: Annotated[int, typer.Option("--top", min=0, help="How many of the largest, … to name.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Count sessions and their sizes; name the largest, the longest unchanged, and those that end next."""
    found = Statistics(top)
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


def _show(found: Statistics, now: float) -> None:
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
    width = max(min(_WIDEST_BAR, out.width - _BESIDE_BAR), 1)
    for power in range(min(sizes), max(sizes) + 1):
        count = sizes[power]
        bar = "█" * max(round(width * count / most), 1 if count else 0)
        line = Text(f"{'≤ ' + size_text(2**power):>12} ")
        line.append(f"{bar:<{width}}", style="cyan")
        line.append(f" {count:,}")
        out.print(line)


def _name(what: str, ranked: list[tuple[str, str]]) -> None:
    if not ranked:
        return
    say(f"\n{what}", "bold")
    for by, key in ranked:
        say(f"  {by:>9}  {shown(key)}" if by else f"  {shown(key)}")


def _emit(found: Statistics) -> None:
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
