"""What is kept in git and shipped stays small."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = {".png", ".svg", ".json", ".csv", ".gz"}


def test_the_figures_of_the_docs_stay_below_600_kb() -> None:
    figures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in FIGURES]
    assert figures
    assert sum(path.stat().st_size for path in figures) <= 600_000
