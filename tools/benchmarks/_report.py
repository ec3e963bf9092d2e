"""What was measured, written down: tables, raw results, and the plots beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from tools.benchmarks._group import Group
from tools.benchmarks._measure import Contender
from tools.benchmarks._plots import plot_group, plot_matrix

MATRIX = "matrix-"
PLOTTED = "integrations"
"""The group whose plot the page has; figures are kept in git, so each page has one."""

_HOW = """One run on one machine: all contenders of a group take turns (A B C A B C …; rounds: {rounds}, in some groups
several times as many, each of about {seconds:g} s after a warm-up); medians with their spread, garbage collection off
while the clock runs. A row whose stored counts did not add up has no figure. Raw results lie beside this page as JSON.

- *µs added*: over the same bot, application or chain without any sessions.
- *p50*, *p99*: from the start of an update until it is committed; with many in flight, that is mostly waiting in line.
- *trips*, *bytes in*, *bytes out*: per update, as the server counted them: read events (Redis, of 16 KB at most),
  statements (PostgreSQL), messages from the client (NATS; the bytes are their payload), write transactions (SQLite),
  calls that write (files). Bytes of SQLite and of files are what this process wrote.
- *CPU µs*: per update, of the process that handles updates with all its threads; *server CPU µs*: of the server.
- Event loop: asyncio's own, and uvloop where the row says so.
"""


@dataclass
class Results:
    """Of one run.

    Args:
        machine: where it ran.
        rounds: of each contender.
        seconds: of each round.
    """

    machine: str
    rounds: int
    seconds: float
    groups: dict[str, Group] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, group: Group) -> None:
        """Keep a group that was measured."""
        self.groups[name] = group
        self.texts[name] = group.table()

    def leave_out(self, name: str, reason: str) -> None:
        """Keep why a group was not measured."""
        self.texts[name] = f"## {name}\n\nNot measured: {reason}\n"

    def failed(self) -> bool:
        """Is there a contender without a figure, or a group that was not measured?"""
        contenders = [each for group in self.groups.values() for each in group.contenders]
        return len(self.groups) < len(self.texts) or any(each.failure for each in contenders)


def keep(results: Results, name: str, out: Path) -> None:
    """Write the raw results of one group, so that they are there even if the run is broken off."""
    if (group := results.groups.get(name)) is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(raw_text(raw(group, results)))


def finish(results: Results, out: Path, *, complete: bool) -> None:
    """Write the plots of what was measured; the pages, only when no group is missing."""
    matrix = {name.removeprefix(MATRIX): group for name, group in results.groups.items() if name.startswith(MATRIX)}
    if matrix:
        plot_matrix(matrix, out / "matrix.png")
    if (plotted := results.groups.get(PLOTTED)) is not None:
        plot_group(plotted, out / f"{PLOTTED}.png")
    if complete:
        (out / "README.md").write_text(_page(results))
        (out / "matrix.md").write_text(_matrix_page(results))


def raw_text(results: Mapping[str, object]) -> str:
    """Raw results as compact JSON, a line for each contender: they are kept in git."""
    text = json.dumps(results, ensure_ascii=False, separators=(",", ":"))
    return text.replace('{"name":', '\n{"name":') + "\n"


def raw(group: Group, results: Results) -> dict[str, object]:
    """All that was measured."""
    return {
        "title": group.title,
        "conditions": f"{results.machine}. {group.conditions}.",
        "note": group.note,
        "contenders": [_raw_contender(each, group.labels) for each in group.contenders],
        "goals": group.verdicts(),
    }


def _raw_contender(contender: Contender, labels: Mapping[str, Sequence[str]]) -> dict[str, object]:
    return {
        "name": contender.name,
        "labels": list(labels.get(contender.name, ())),
        "role": contender.role,
        "base": contender.base,
        "failure": contender.failure,
        "rounds": [_rounded(asdict(each)) for each in contender.rounds],
    }


def _rounded(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields with five digits of each number, which is more than any figure has."""
    return {name: _short(value) for name, value in fields.items()}


def _short(value: object) -> object:
    if isinstance(value, dict):
        return _rounded(value)
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _page(results: Results) -> str:
    texts = {name: text for name, text in results.texts.items() if not name.startswith(MATRIX)}
    parts = [
        "# Benchmarks",
        f"By `make bench`, {date.today()}. {results.machine}.",
        _HOW.format(rounds=results.rounds, seconds=results.seconds),
        "## What it must reach",
        _verdicts(results),
        *(
            f"{text}{_image(name, results.groups[name].title) if name == PLOTTED and name in results.groups else ''}"
            for name, text in texts.items()
        ),
        "## The matrix",
        "Every storage × (strict changed, strict unchanged, lazy untouched, multi of three, encrypted) × (1, 20, 200, "
        "2,000 in flight) × (300 bytes, 10 KB, 300 KB): [all rows](matrix.md).",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _verdicts(results: Results) -> str:
    parts = []
    for group in results.groups.values():
        if verdicts := group.verdicts():
            parts.append(f"{group.title}:\n\n" + "\n".join(verdicts))
    return "\n\n".join(parts)


def _matrix_page(results: Results) -> str:
    texts = [text for name, text in results.texts.items() if name.startswith(MATRIX)]
    lead = (
        f"By `make bench`, {date.today()}. {results.machine}. What the columns mean: [benchmarks](README.md). "
        "A `multi` update changes three sessions of the size that the row names; an `untouched` session is never asked "
        "for. Left out is what would have more than 100 MB under way at once (2,000 updates of 300 KB, 200 of three "
        "times that), and uvloop but for `strict, changed` of 300 bytes."
    )
    image = _image("matrix", "Updates per second by updates in flight").strip()
    return "\n\n".join(["# The matrix", lead, image, *(text.strip("\n") for text in texts)]) + "\n"


def _image(name: str, title: str) -> str:
    return f"\n\n![{title}]({name}.png)"
