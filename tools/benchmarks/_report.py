"""The pages, made of all raw results that lie in one folder, whenever each was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.benchmarks._plots import plot_group, plot_matrix
from tools.benchmarks._results import Result, read

MATRIX = "matrix-"
PLOTTED = "integrations"
"""The group whose plot the page has; figures are kept in git, so each page has one."""

_LEAD = """`make bench` measures all groups; the command above a table measures this one. All contenders of a group take
turns (A B C A B C …) after a warm-up; medians with their spread, garbage collection off while the clock runs. A row
whose stored counts did not add up has no figure. Raw results lie beside this page as JSON.

- *µs added*: over the same bot, application or chain without any sessions.
- *p50*, *p99*: from the start of an update until it is committed; with many in flight, that is mostly waiting in line.
- *trips*, *bytes in*, *bytes out*: per update, as the server counted them: read events (Redis, of 16 KB at most),
  statements (PostgreSQL), messages from the client (NATS; the bytes are their payload), write transactions (SQLite),
  calls that write (files), requests (MongoDB). Bytes of SQLite and of files are what this process wrote.
- *CPU µs*: per update, of the process that handles updates with all its threads; *server CPU µs*: of the server. Where
  the machine had other load, these tell more than the times.
- Event loop: asyncio's own, and uvloop where the row says so."""

_MATRIX_LEAD = """What the columns mean: [benchmarks](README.md). A `multi` update changes three sessions of the size
that the row names; an `untouched` session is never asked for. Left out is what would have more than 100 MB under way at
once (2,000 updates of 300 KB, 200 of three times that), and uvloop but for `strict, changed` of 300 bytes."""


def write_pages(folder: Path, names: Sequence[str]) -> None:
    """Write the pages and their plots.

    Args:
        folder: with the raw results.
        names: of the groups, in their order on the pages; those without results are left out.
    """
    results = {name: read(path) for name in names if (path := folder / f"{name}.json").exists()}
    matrix = {name.removeprefix(MATRIX): each for name, each in results.items() if name.startswith(MATRIX)}
    groups = {name: each for name, each in results.items() if not name.startswith(MATRIX)}
    if matrix:
        plot_matrix({name: each.group for name, each in matrix.items()}, folder / "matrix.png")
        (folder / "matrix.md").write_text(_matrix_page(matrix))
    if PLOTTED in groups:
        plot_group(groups[PLOTTED].group, folder / f"{PLOTTED}.png")
    (folder / "README.md").write_text(_page(groups))


def _page(results: Mapping[str, Result]) -> str:
    texts: list[str] = []
    for name, each in results.items():
        texts.append(each.text().strip("\n"))
        if name == PLOTTED:
            texts.append(_image(name, each.group.title))
    end = (
        "Every storage × (strict changed, strict unchanged, lazy untouched, multi of three, encrypted) × (1, 20, 200, "
        "2,000 in flight) × (300 bytes, 10 KB, 300 KB): [all rows](matrix.md)."
    )
    return "\n\n".join(["# Benchmarks", _LEAD, *texts, "## The matrix", end]) + "\n"


def _matrix_page(results: Mapping[str, Result]) -> str:
    image = _image("matrix", "Updates per second by updates in flight")
    texts = [each.text().strip("\n") for each in results.values()]
    return "\n\n".join(["# The matrix", _MATRIX_LEAD, image, *texts]) + "\n"


def _image(name: str, title: str) -> str:
    return f"![{title}]({name}.png)"
