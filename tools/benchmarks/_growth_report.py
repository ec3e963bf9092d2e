"""What was measured as tables and a plot: docs/benchmarks/growth.md."""

# pyright: reportUnknownMemberType=false
# (matplotlib's own annotations are not complete)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tools.benchmarks._growth_verdict import NOISE, STEPS, Table, growth_of, is_too_fast, row, too_fast
from tools.figures import save_png

PLOTTED = "PostgreSQL"
"""The database whose plot the page has; figures are kept in git, so each page has one."""


def report(raw: dict[str, Any], folder: Path) -> bool:
    """Write the page and the picture.

    Returns:
        Whether no step grows faster than the storage's own index.
    """
    stored: dict[str, dict[str, dict[str, float]]] = raw["stored"]
    faster = too_fast(stored)
    parts = [_heading(raw["conditions"])]
    for name, table in stored.items():
        parts.append(_stored(name, table))
        if name == PLOTTED:
            _plot(folder / "growth.png", {step: row(table, step) for step in STEPS}, "stored", "ms")
    parts.append(_verdict(faster))
    for what, title, axis in _OTHERS:
        parts.append(_other(title, axis, raw[what]))
    (folder / "growth.md").write_text("\n".join(parts))
    return not faster


_OTHERS = (
    (
        "hot",
        "From 1 to 10,000 hot chats\n\n200 updates in flight, each of a chat that is chosen at random. Of few chats, "
        "many updates wait for one another: a chat's updates run one after another.",
        "hot chats",
    ),
    (
        "sizes",
        "From 1 KB to 1 MB a session\n\n20 updates in flight over 100 chats; each update reads, decodes, changes, "
        "encodes and writes the whole session.",
        "bytes",
    ),
    (
        "processes",
        "From one to four processes\n\n100 updates in flight in each, all over the same 1,000 chats, so that the "
        "processes want each other's locks. All of them share the machine's cores with the server.",
        "processes",
    ),
)


def _heading(conditions: Mapping[str, Any]) -> str:
    note = f" {conditions['note']}" if conditions.get("note") else ""
    return f"""# How the cost grows

By `python -m tools.benchmarks.growth`, {conditions["begin"]}, in {conditions["took_s"]} s: {conditions["python"]} on \
{conditions["system"]}, {conditions["cores"]} cores, SQLite {conditions["sqlite"]}, load average at the end \
{conditions["load_average"][0]}; PostgreSQL flushes each commit, with {_settings(conditions["postgres"])}. All \
is measured {conditions["rounds"]} times, in turns (A B C A B C), updates for {conditions["seconds"]:g} s each time; \
the figures are medians. Other work of the machine disturbs single ones.{note}

Each run checks what is stored when it is over: every session that was counted up must have its count, all rows must be
there, a sweep must have swept what had expired. Where that fails there is no figure.

## From 1,000 to 10,000,000 stored sessions

Sessions of 300 bytes, each second one with a time to live, loaded by one transaction (SQLite) or `COPY` (PostgreSQL).
Times are milliseconds; updates are of chats chosen at random from all. *index lookup* and what is called *bare* are the
database's own statements without this library, on the same table: what the index itself costs, and writing to pages all
over the disk. *stats* is what `doctor` and `check` ask: facts, and the number of expired sessions. A sweep of
PostgreSQL also looks through the locks of the last minute, which grow with the chats that are active, not with those
that are stored.
"""


def _settings(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _stored(name: str, table: Table) -> str:
    sizes = list(table)
    lines = [
        f"### {name}\n",
        f"| | {' | '.join(f'{int(size):,}' for size in sizes)} | grows by |",
        "| --- |" + " ---: |" * (len(sizes) + 1),
    ]
    for step in STEPS:
        values = row(table, step)
        cells = " | ".join(_number(value) for value in values.values())
        lines.append(
            f"| {step}, ms | {cells} | × {growth_of(values):.2g}{' **!**' if is_too_fast(table, step) else ''} |"
        )
    lines.append(f"| loaded, s | {' | '.join(_number(table[size]['load_s']) for size in sizes)} | |")
    lines.append(f"| on the disk, MB | {' | '.join(_number(table[size]['bytes'] / 1e6) for size in sizes)} | |")
    picture = f"\n![{name}](growth.png)\n" if name == PLOTTED else ""
    return "\n".join(lines) + f"\n{picture}"


def _verdict(faster: Sequence[str]) -> str:
    rule = (
        f"Growth is from the two smallest to the two largest numbers (the geometric mean of each pair). A step grows "
        f"faster than the storage's own index if it grows by more than {NOISE:g} times, and by more than "
        "twice as much as the bare statement of the same kind (a lookup for what reads, an update for what writes)."
    )
    return f"{rule} {'**No step does.**' if not faster else '**Faster: ' + '; '.join(faster) + '.**'}\n"


def _other(title: str, axis: str, tables: Mapping[str, Table]) -> str:
    numbers = list(next(iter(tables.values())))
    lines = [
        f"## {title}\n",
        f"| updates per second (p50 / p99 in ms), by {axis} | {' | '.join(f'{int(each):,}' for each in numbers)} |",
        "| --- |" + " ---: |" * len(numbers),
    ]
    for name, table in tables.items():
        cells = [
            f"{table[each]['per_second']:,.0f} ({_number(table[each]['p50_ms'])} / {_number(table[each]['p99_ms'])})"
            for each in numbers
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plot(path: Path, lines: Mapping[str, Mapping[float, float]], axis: str, unit: str) -> None:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for label, values in lines.items():
        style = "--" if label.startswith(("index lookup", "bare")) else "-"
        axes.plot(list(values), list(values.values()), style, marker="o", ms=3, label=label)
    axes.set_xscale("log")
    axes.set_xticks(list(next(iter(lines.values()))), [f"{number:,.0f}" for number in next(iter(lines.values()))])
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize="small")
    save_png(figure, path)
