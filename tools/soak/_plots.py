"""One storage's run as a picture."""

# pyright: reportUnknownMemberType=false
# (matplotlib's own annotations are not complete)

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from tools.soak._verdict import Columns

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

_COUNTED = ("fds", "sockets", "threads", "tasks")


def plot(folder: Path, name: str, record: Columns, server: Columns) -> None:
    """Draw one storage's run into a PNG and an SVG.

    Args:
        folder: where the pictures go.
        name: of the storage.
        record: of its process.
        server: what the server told.
    """
    mpl.rcParams["svg.hashsalt"] = name  # the same record gives the same file
    minutes = [seconds / 60 for seconds in record["seconds"]]
    at = [seconds / 60 for seconds in server["seconds"]]
    figure, axes = pyplot.subplots(5, 1, figsize=(9, 11), sharex=True, layout="constrained")
    memory, counts, stored, latency, lag = axes
    memory.plot(minutes, [value / 2**20 for value in record["rss"]], label="resident memory, MiB")
    for what in _COUNTED:
        counts.plot(minutes, record[what], label=what, drawstyle="steps-post")
    if max(server["connections"]) >= 0:
        counts.plot(at, server["connections"], label="connections at the server", drawstyle="steps-post", ls="--")
    _stored(stored, minutes, record["stored"], at, server["size"])
    latency.plot(minutes, record["p99"], "C1", lw=0.7, label="an update, p99, ms")
    latency.plot(minutes, record["p50"], "C0", label="an update, p50, ms")
    lag.plot(minutes, record["lag"], "C3", lw=0.7, label="event loop late at most, ms")
    for each in (latency, lag):
        each.set_yscale("log")
    for each in (memory, counts, stored):
        each.set_ylim(0, each.get_ylim()[1] * 1.3)  # room for the legend
    for each in axes:
        each.axvspan(0, minutes[-1] / 4, color="0.94")
        each.legend(loc="upper left", ncols=5)
        each.grid(alpha=0.3)
    lag.set_xlabel("minutes (grey: filling up, not judged)")
    figure.suptitle(f"{name}: {sum(record['updates']):,.0f} updates")
    figure.savefig(folder / f"{name}.png", dpi=80)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def _stored(axes: Axes, minutes: list[float], counts: list[float], at: list[float], sizes: list[float]) -> None:
    counted = [(minute, count) for minute, count in zip(minutes, counts, strict=True) if count >= 0]
    axes.plot(*zip(*counted, strict=True), label="stored sessions")
    if max(sizes) < 0:
        return
    right = axes.twinx()
    right.plot(at, [size / 2**20 for size in sizes], "C1", label="MiB at the storage (right)")
    right.set_ylim(0, right.get_ylim()[1] * 1.3)
    right.legend(loc="upper right")
