"""Raw results: each group that was measured as a file of JSON, from which the pages are made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.benchmarks._group import Group, section
from tools.benchmarks._measure import Contender, Round, Running


@dataclass(frozen=True)
class Run:
    """How a group was measured.

    Args:
        machine: where.
        day: in ISO form.
        command: what repeats it.
        load: of the machine, over the minute before; `None`: it was not noted.
    """

    machine: str
    day: str
    command: str
    load: float | None

    def __str__(self) -> str:
        load = "" if self.load is None else f", with a load of {self.load:.1f} at the beginning"
        return f"`{self.command}`, {self.day}; {self.machine}{load}."


@dataclass(frozen=True)
class Result:
    """A group that was measured, with its verdicts as text."""

    group: Group
    verdicts: Sequence[str]
    run: Run

    def text(self) -> str:
        """Its part of a page."""
        return section(self.group, self.verdicts, str(self.run))


def write(path: Path, result: Result) -> None:
    """Write a result as compact JSON, a line for each contender."""
    group = result.group
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "title": group.title,
        "run": asdict(result.run),
        "conditions": group.conditions,
        "note": group.note,
        "headings": group.headings,
        "contenders": [_to_json(each, group.labels) for each in group.contenders],
        "verdicts": result.verdicts,
    }
    path.write_text(raw_text(fields))


def read(path: Path) -> Result:
    """Read what `write` wrote."""
    fields = json.loads(path.read_text())
    group = Group(
        fields["title"],
        [_from_json(each) for each in fields["contenders"]],
        fields["conditions"],
        note=fields["note"],
        headings=fields["headings"],
        labels={each["name"]: each["labels"] for each in fields["contenders"] if "labels" in each},
    )
    return Result(group, fields["verdicts"], Run(**fields["run"]))


def raw_text(results: Mapping[str, object]) -> str:
    """Compact JSON, a line for each thing with a name: it is kept in git."""
    text = json.dumps(results, ensure_ascii=False, separators=(",", ":"))
    return text.replace('{"name":', '\n{"name":') + "\n"


def _to_json(contender: Contender, labels: Mapping[str, Sequence[str]]) -> dict[str, object]:
    rounds = contender.rounds
    columns: dict[str, Sequence[float | None]] = {
        name: [getattr(each, name) for each in rounds] for name in ("seconds", "cpu", "p50", "p99")
    }
    server = {name: [each.server[name] for each in rounds] for name in (rounds[0].server if rounds else ())}
    fields = {
        "name": contender.name,
        "labels": labels.get(contender.name),
        "role": contender.role,
        "base": contender.base,
        "failure": contender.failure,
        "updates": rounds[0].updates if rounds else None,
        "rounds": {name: _short(column) for name, column in columns.items() if None not in column} if rounds else None,
        "server": {name: _short(column) for name, column in server.items()},
    }
    return {name: value for name, value in fields.items() if value is not None and value != {}}


def _from_json(fields: Mapping[str, Any]) -> Contender:
    contender = Contender(fields["name"], _cannot_run, fields["role"], fields.get("base"))
    contender.failure = fields.get("failure")
    columns, server = fields.get("rounds", {}), fields.get("server", {})
    for number in range(len(columns.get("seconds", ()))):
        measured: dict[str, Any] = {"p50": None, "p99": None}
        measured |= {name: column[number] for name, column in columns.items()}
        counted = {name: column[number] for name, column in server.items()}
        contender.rounds.append(Round(fields["updates"], server=counted, **measured))
    return contender


def _cannot_run() -> AbstractAsyncContextManager[Running]:
    raise NotImplementedError("results that were read cannot be measured")


def _short(column: Iterable[Any]) -> list[float]:
    """Numbers with four digits, one more than any figure has."""
    return [float(f"{value:.4g}") for value in column]
