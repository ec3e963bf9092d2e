"""A group of contenders on the same work, what it must reach, and how that is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeAlias

from benchmarks._measure import Contender

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
    """

    what: str
    ours: Cost
    other: Cost
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, microseconds: Mapping[str, float]) -> str:
        """A line that tells what was measured, and whether that is enough."""
        ours, other = _cost(self.ours, microseconds), _cost(self.other, microseconds)
        if min(ours, other) <= 0:
            return f"- unknown: {self.what}: lost in the noise"
        if self.at_least is not None:
            ratio, bound, reached = other / ours, f"at least {self.at_least:g}", other >= self.at_least * ours
        else:
            assert self.at_most is not None
            ratio, bound, reached = ours / other, f"at most {self.at_most:g}", ours <= self.at_most * other
        return f"- {'reached' if reached else 'missed'}: {self.what}: {ratio:.2f} ({bound})"


@dataclass(frozen=True)
class Group:
    """Ready to be measured.

    Args:
        title: of its table.
        contenders: the floor first.
        conditions: the versions of what it runs on.
        goals: what is to be reached.
    """

    title: str
    contenders: Sequence[Contender]
    conditions: str = ""
    goals: Sequence[Goal] = ()

    def table(self) -> str:
        """Markdown: medians, spread, how each compares with the first, and the goals."""
        floor = self.contenders[0].microseconds
        lines = [
            f"## {self.title}",
            "",
            "| | µs per update | updates per second | times the first |",
            "| --- | ---: | ---: | ---: |",
        ]
        for each in self.contenders:
            time = f"{each.microseconds:,.2f} ± {each.spread:.0%}"
            speed = f"{1e6 / each.microseconds:,.0f}"
            lines.append(f"| {each.name} | {time} | {speed} | {each.microseconds / floor:,.2f} |")
        microseconds = {each.name: each.microseconds for each in self.contenders}
        goals = [goal.verdict(microseconds) for goal in self.goals]
        return "\n".join([*lines, "", *goals, *([""] if goals else []), f"With {self.conditions}."]) + "\n"


def versions(*names: str) -> str:
    """The versions of installed packages."""
    return ", ".join(f"{name} {version(name)}" for name in names)


def _cost(cost: Cost, microseconds: Mapping[str, float]) -> float:
    if isinstance(cost, str):
        return microseconds[cost]
    whole, base = cost
    return microseconds[whole] - microseconds[base]
