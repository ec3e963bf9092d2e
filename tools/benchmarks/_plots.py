"""Plots of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tools.benchmarks._group import Group
from tools.benchmarks._measure import Contender, Role
from tools.figures import save_png

_COLORS: dict[Role, str] = {"ours": "#0b6e99", "peer": "#c26a1b", "floor": "#8a8f98"}
_MEANINGS: dict[Role, str] = {"ours": "chatsession", "peer": "peer", "floor": "floor"}
_LINES = ("#0b6e99", "#c26a1b", "#3a8f5c", "#a33b4a", "#6b5ca5", "#555b66")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_TEXT, _GRID = "#2b2f36", "#e3e6ea"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "axes.grid": True,
    "grid.color": _GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_group(group: Group, path: Path) -> None:
    """Updates per second of all contenders, the fastest first, on a logarithmic scale.

    Args:
        group: that was measured.
        path: of the picture.
    """
    known = sorted((each for each in group.contenders if each.rounds), key=lambda each: -each.microseconds)
    if not known:
        return
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 1.3 + 0.32 * len(known)), layout="constrained")
        axes = figure.subplots()
        for row, each in enumerate(known):
            _dot(axes, row, each)
        axes.set_yticks(range(len(known)), [each.name for each in known])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_number))
        axes.set_xlabel("updates per second (logarithmic); the line spans all rounds")
        axes.set_title(group.title)
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        roles: list[Role] = list(dict.fromkeys(each.role for each in reversed(known)))
        for role in roles:
            axes.plot([], [], "o", color=_COLORS[role], label=_MEANINGS[role])
        axes.legend(loc="lower right", frameon=False)
        save_png(figure, path)


def plot_matrix(groups: Mapping[str, Group], path: Path) -> None:
    """Updates per second by the updates in flight: a line for each storage, a panel for each size.

    Args:
        groups: by storage.
        path: of the picture.
    """
    sizes = _values(groups, 1)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4 * len(sizes), 4), layout="constrained")
        panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
        for axes, size in zip(panels, sizes, strict=True):
            for line, (name, group) in enumerate(groups.items()):
                _draw(axes, line, name, [(flight, 1e6 / each.microseconds) for flight, each in _line(group, size)])
            _finish(axes, f"{size} bytes")
        panels[0].set_ylabel("updates per second, strict, changed")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
        save_png(figure, path)


def _dot(axes: Axes, row: int, each: Contender) -> None:
    speeds = [1e6 / measured.microseconds for measured in each.rounds]
    color = _COLORS[each.role]
    axes.plot([min(speeds), max(speeds)], [row, row], color=color, linewidth=2, alpha=0.5)
    axes.plot(1e6 / each.microseconds, row, "o", color=color)
    axes.annotate(
        _number(1e6 / each.microseconds),
        (max(speeds), row),
        xytext=(7, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=8,
    )


def _values(groups: Mapping[str, Group], column: int) -> list[str]:
    """All labels of a column, in their order."""
    labels = [labels[column] for group in groups.values() for labels in group.labels.values()]
    return [label for label in dict.fromkeys(labels) if label]


def _line(group: Group, size: str) -> list[tuple[int, Contender]]:
    """The cells of strict, changed sessions of one size, by the number in flight."""
    found: list[tuple[int, Contender]] = []
    for each in group.contenders:
        work, bytes_, flight = group.labels[each.name]
        if each.rounds and (work, bytes_) == ("strict, changed", size) and "uvloop" not in flight:
            found.append((int(flight.replace(",", "")), each))
    return found


def _draw(axes: Axes, line: int, name: str, points: Sequence[tuple[int, float]]) -> None:
    axes.plot(
        [flight for flight, _ in points],
        [value for _, value in points],
        marker=_MARKERS[line],
        markersize=4,
        color=_LINES[line],
        label=name,
    )


def _finish(axes: Axes, title: str) -> None:
    flights = sorted({float(flight) for line in axes.get_lines() for flight in line.get_xdata()})
    if flights:  # nothing has no logarithm
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(flights)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlabel("updates in flight")
    axes.set_title(title)


def _number(value: float, _: object = None) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
