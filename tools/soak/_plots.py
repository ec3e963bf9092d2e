"""All storages' runs as one picture."""

# pyright: reportUnknownMemberType=false
# (matplotlib's own annotations are not complete)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from tools.figures import save_png
from tools.soak._verdict import Columns


def plot(path: Path, records: Mapping[str, Columns]) -> None:
    """Draw the memory of every process.

    Args:
        path: of the picture.
        records: by storage.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, record in records.items():
        axes.plot(
            [seconds / 60 for seconds in record["seconds"]], [value / 2**20 for value in record["rss"]], label=name
        )
    last = max(record["seconds"][-1] for record in records.values()) / 60
    axes.axvspan(0, last / 4, color="0.94")
    axes.set_ylim(0, axes.get_ylim()[1])
    axes.set_xlabel("minutes (grey: filling up, not judged)")
    axes.set_ylabel("resident memory, MiB")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center")
    save_png(figure, path)
