"""A group of contenders on the same work, what it must reach, and how that is printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeAlias

from tools.benchmarks._measure import Contender, Round
from tools.benchmarks._meters import BYTES_IN, BYTES_OUT, CPU, TRIPS

Cost: TypeAlias = str | tuple[str, str]
"""The time of a contender's update; of two: what the first adds to the second."""


@dataclass(frozen=True)
class Goal:
    """A ratio that is to be reached, of medians of the same run.

    Args:
        what: is to be reached.
        ours: what is to be fast.
        other: what it is compared with.
        at_least: so many times the other's updates per second.
        at_most: so many times the other's time per update.
        why: the other may be better; printed where it is.
    """

    what: str
    ours: Cost
    other: Cost
    at_least: float | None = None
    at_most: float | None = None
    why: str = ""

    def verdict(self, microseconds: Mapping[str, float], processor: Mapping[str, float] | None = None) -> str:
        """A line that tells what was measured, and whether that is enough.

        Args:
            microseconds: time of an update, by contender.
            processor: the part of it that this process computed, told beside it: other load hardly changes it.
        """
        try:
            ours, other = _cost(self.ours, microseconds), _cost(self.other, microseconds)
        except KeyError as missing:
            return f"- unknown: {self.what}: there is no figure of {missing}"
        if min(ours, other) <= 0:
            return f"- unknown: {self.what}: lost in the noise"
        if self.at_least is not None:
            bound, reached = f"at least {self.at_least:.3g}", other >= self.at_least * ours
        else:
            assert self.at_most is not None
            bound, reached = f"at most {self.at_most:.3g}", ours <= self.at_most * other
        line = f"- {'reached' if reached else 'missed'}: {self.what}: {self._ratio(ours, other)} ({bound})"
        line += self._processor(processor or {})
        return line if reached or not self.why else f"{line}. Why: {self.why}"

    def _ratio(self, ours: float, other: float) -> str:
        ratio = ours / other if self.at_least is None else other / ours
        return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"

    def _processor(self, processor: Mapping[str, float]) -> str:
        try:
            ours, other = _cost(self.ours, processor), _cost(self.other, processor)
        except KeyError:  # the processor of a server, or a program that does not tell
            return ""
        return f"; in processor time {self._ratio(ours, other)}" if min(ours, other) > 0 else ""


def no_slower(ours: Cost, peer: Cost, why: str) -> Goal:
    """In no row slower than a peer; where one is faster, the table says so and why."""
    named = f"what {peer[0]} adds" if isinstance(peer, tuple) else peer
    mine = f"what {ours[0]} adds" if isinstance(ours, tuple) else ours
    return Goal(f"time of {mine}, against {named}", ours, peer, at_most=1, why=why)


@dataclass(frozen=True)
class Group:
    """Ready to be measured.

    Args:
        title: of its table.
        contenders: the floor first.
        conditions: the versions of what it runs on.
        goals: what is to be reached.
        note: what a reader must know to judge the figures.
        headings: of the labels.
        labels: what stands at the beginning of a contender's row; its name, unless said otherwise.
        times: so many times the usual rounds, where a goal is within what the machine's own noise is.
    """

    title: str
    contenders: Sequence[Contender]
    conditions: str = ""
    goals: Sequence[Goal] = ()
    note: str = ""
    headings: Sequence[str] = ("",)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    times: int = 1

    def verdicts(self) -> list[str]:
        """What was to be reached, and whether it was."""
        microseconds = microseconds_of(self.contenders)
        processor = {each.name: cpu for each in self.contenders if (cpu := each.median(_cpu)) is not None}
        return [goal.verdict(microseconds, processor) for goal in self.goals]

    def table(self) -> str:
        """Markdown: medians, spread, what was counted, and the goals."""
        return section(self, self.verdicts())


def section(group: Group, verdicts: Sequence[str], run: str = "") -> str:
    """Markdown: what was measured, the goals, and how.

    Args:
        group: that was measured.
        verdicts: on its goals.
        run: how and when it was measured.
    """
    labels = {each.name: [each.name] for each in group.contenders} | dict(group.labels)
    rows = table(group.contenders, group.headings, labels)
    parts = [f"## {group.title}", run, group.note, rows, "\n".join(verdicts), f"With {group.conditions}."]
    return "\n\n".join(part for part in parts if part) + "\n"


def microseconds_of(contenders: Sequence[Contender]) -> dict[str, float]:
    """Median times by name, of those that have one; and those of their servers' processors, by `server_of` the name."""
    known = [each for each in contenders if each.rounds]
    servers = {server_of(each.name): each.median(_server_cpu) for each in known}
    return {each.name: each.microseconds for each in known} | {
        name: cpu for name, cpu in servers.items() if cpu is not None
    }


def server_of(name: str) -> str:
    """The name under which a goal finds the time that a contender's server computed for an update."""
    return f"the server of {name}"


def _cpu(measured: Round) -> float:
    return measured.cpu / measured.updates * 1e6


def _server_cpu(measured: Round) -> float | None:
    return measured.server[CPU] / measured.updates * 1e6 if CPU in measured.server else None


@dataclass(frozen=True)
class _Column:
    heading: str
    value: Callable[[Contender], float | None]
    form: Callable[[float], str]


def table(contenders: Sequence[Contender], headings: Sequence[str], labels: Mapping[str, Sequence[str]]) -> str:
    """Markdown: a row for each contender, with the columns for which at least one has a figure.

    Args:
        contenders: measured, or failed.
        headings: of the labels.
        labels: what stands at the beginning of a contender's row, by its name.
    """
    times = microseconds_of(contenders)
    known = [each for each in contenders if each.rounds]
    columns = [column for column in _columns(times) if any(column.value(each) is not None for each in known)]
    lines = [
        _row([*headings, *(column.heading for column in columns)]),
        _row(["---"] * len(headings) + ["---:"] * len(columns)),
    ]
    for each in contenders:
        if each.rounds:
            values = [(column, column.value(each)) for column in columns]
            cells = ["–" if value is None else column.form(value) for column, value in values]
        else:
            cells = [f"no figure: {each.failure or 'not measured'}".replace("|", "/"), *[""] * (len(columns) - 1)]
        lines.append(_row([*labels[each.name], *cells]))
    return "\n".join(lines)


def _columns(times: Mapping[str, float]) -> list[_Column]:
    def per_update(name: str, factor: float = 1.0) -> Callable[[Contender], float | None]:
        return lambda each: each.median(
            lambda measured: measured.server[name] / measured.updates * factor if name in measured.server else None
        )

    def added(each: Contender) -> float | None:
        return each.microseconds - times[each.base] if each.base in times else None

    def milliseconds(each: float | None) -> float | None:
        return None if each is None else each * 1e3

    return [
        _Column("updates per second", lambda each: 1e6 / each.microseconds, _whole),
        _Column("µs per update", lambda each: each.microseconds, _short),
        _Column("spread", lambda each: each.spread, lambda value: f"± {value:.0%}"),
        _Column("µs added", added, _short),
        _Column("p50 ms", lambda each: milliseconds(each.median(lambda measured: measured.p50)), _short),
        _Column("p99 ms", lambda each: milliseconds(each.median(lambda measured: measured.p99)), _short),
        _Column("trips", per_update(TRIPS), _short),
        _Column("bytes in", per_update(BYTES_IN), _whole),
        _Column("bytes out", per_update(BYTES_OUT), _whole),
        _Column("CPU µs", lambda each: each.median(_cpu), _short),
        _Column("server CPU µs", per_update(CPU, 1e6), _short),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def versions(*names: str) -> str:
    """The versions of installed packages."""
    return ", ".join(f"{name} {version(name)}" for name in names)


def _cost(cost: Cost, microseconds: Mapping[str, float]) -> float:
    if isinstance(cost, str):
        return microseconds[cost]
    whole, base = cost
    return microseconds[whole] - microseconds[base]
