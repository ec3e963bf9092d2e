"""What is kept in git and shipped stays small, and so does the way of an update."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.calls import calls_of_one_update

ROOT = Path(__file__).parents[1]
FIGURES = {".png", ".svg", ".json", ".csv", ".gz"}

_MOST_CALLS = 85
"""On Python 3.11; newer ones count comprehensions no more."""


def test_the_figures_of_the_docs_stay_below_600_kb() -> None:
    figures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in FIGURES]
    assert figures
    assert sum(path.stat().st_size for path in figures) <= 600_000


async def test_an_update_takes_at_most_85_calls(tmp_path: Path) -> None:
    for attempt in range(3):  # on a busy machine the lease may be given back meanwhile
        folder = tmp_path / str(attempt)
        folder.mkdir()
        if len(await calls_of_one_update(folder)) <= _MOST_CALLS:
            return
    pytest.fail(f"see which calls were added by python -m tools.calls; an update takes {_MOST_CALLS} at most")
