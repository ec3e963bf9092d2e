"""Records as plots and as a table: `python -m tools.soak --report`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.soak._plots import plot
from tools.soak._verdict import MOST_GROWTH, POOLS, Grown, Verdict, columns, judge

_HEADING = """# Soak: does anything grow?

A bot runs for months. So each storage carries the same steady load for {minutes:g} minutes, one process each, all at
the same time: chats that count, updates that change nothing, sessions that are deleted, new chats whose sessions expire
(60 s) and some that come back in time, handlers that fail, handlers that are cancelled. Every {every:g} s the updates
pause and the process is looked at: memory, file descriptors, sockets, threads, asyncio tasks, how late its event loop
was, how long updates took. Every 30 s the server is asked for its connections and the bytes it holds.

    python -m tools.soak --minutes {minutes:g} --rate {rate:g} --every {every:g}

Conditions: {begin}, {rate:g} updates per second on each storage, Python {python}, {cores} cores, {system}. {note}

**Flat** means, over the last three quarters of the run (the first is for caches, connection pools and expiring sessions
to fill up): a line through the memory climbs by at most {bound:g} MiB per hour, which is {bytes:.0f} bytes for each
update; the medians of file descriptors, sockets, threads, tasks and the server's connections are no higher in the last
third of that time than in the first (the file storage's threads may become the eight that it is built for); the number
of stored sessions stays within a tenth; no update fails, and at the end the stored counts add up to what was counted.

"""


def report(folder: Path) -> bool:
    """Write a README.md and a plot of all records of a run.

    Returns:
        Whether all was flat.
    """
    run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    said: dict[str, str] = run["verdicts"]
    records = {name: (columns(folder / f"{name}.csv.gz"), columns(folder / f"{name}.server.csv")) for name in said}
    verdicts = {name: judge(*record, POOLS.get(name)) for name, record in records.items()}
    text = _HEADING.format(**run, bound=MOST_GROWTH, bytes=MOST_GROWTH * 2**20 / 3600 / run["rate"])
    text += _table(verdicts, said) + _PLOT + _latencies(verdicts)
    (folder / "README.md").write_text(text)
    plot(folder / "memory.png", {name: record for name, (record, _) in records.items()})
    return all(_is_good(verdict, said[name]) for name, verdict in verdicts.items())


def _table(verdicts: Mapping[str, Verdict], said: Mapping[str, str]) -> str:
    lines = [
        "| storage | updates | memory, MiB | per hour | fds | sockets | threads | tasks | connections | sessions "
        "| counts add up | verdict |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for name, each in verdicts.items():
        counts = " | ".join(_span(each.constant.get(kind)) for kind in _COUNTED)
        right = "yes" if "ok;" in said[name] else f"no: {said[name]}"
        verdict = "**flat**" if _is_good(each, said[name]) else f"not flat: {', '.join(each.grew) or 'errors'}"
        lines.append(
            f"| {name} | {each.updates:,} | {each.memory.start:.1f} → {each.memory.end:.1f} "
            f"| {each.slope:+.2f} MiB | {counts} | {each.stored.start:,.0f} → {each.stored.end:,.0f} | {right} "
            f"| {verdict} |"
        )
    lines.append(
        "\nMemory and sessions are means, the others medians, of the first and the last third of the judged time.\n"
    )
    return "\n".join(lines) + "\n"


_PLOT = "![Resident memory of each process](memory.png)\n\n"
_COUNTED = ("fds", "sockets", "threads", "tasks", "connections")


def _latencies(verdicts: Mapping[str, Verdict]) -> str:
    lines = [
        "## Latency and size\n",
        "Medians of the first and of the last third of the judged time; not judged, since whatever else the machine "
        "does shows here.\n",
        "| storage | p50, ms | p99, ms | bytes at the storage, MiB |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, each in verdicts.items():
        size = f"{each.size.start / 2**20:.2f} → {each.size.end / 2**20:.2f}" if each.size.end >= 0 else "–"
        lines.append(
            f"| {name} | {each.p50[0]:.2f} → {each.p50[1]:.2f} | {each.p99[0]:.1f} → {each.p99[1]:.1f} | {size} |"
        )
    return "\n".join(lines) + "\n\n"


def _is_good(verdict: Verdict, said: str) -> bool:
    return verdict.is_flat and "ok; 0 errors" in said


def _span(grown: Grown | None) -> str:
    if grown is None:
        return "–"
    return f"{grown.start:g}" if grown.start == grown.end else f"{grown.start:g} → {grown.end:g}"
