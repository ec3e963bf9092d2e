"""Which steps grow faster than the storage's own index."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TypeAlias

Table: TypeAlias = Mapping[str, Mapping[str, float]]
"""Number of sessions, step, milliseconds."""

STEPS = {
    "index lookup": None,
    "bare update": None,
    "bare update, 200 a transaction": None,
    "bare page of 500": None,
    "open": "index lookup",
    "read": "index lookup",
    "update, 1 in flight": "bare update",
    "update, 1 in flight, p99": None,
    "update, 200 in flight": "bare update, 200 a transaction",
    "update, 200 in flight, p99": None,
    "page of 500": "bare page of 500",
    "sweep of 1,000": "bare update",
    "sweep, nothing expired": "index lookup",
    "stats": "index lookup",
}
"""And the bare statement that tells how the database's own index grows on the same work; `None`: not judged."""
NOISE = 3.0
"""What a step may grow by in any case."""


def too_fast(stored: Mapping[str, Table]) -> list[str]:
    """Storages and steps that grow faster than their index."""
    return [f"{name}, {step}" for name, table in stored.items() for step in STEPS if is_too_fast(table, step)]


def row(table: Table, step: str) -> dict[float, float]:
    """One line of a table, by number."""
    return {float(size): steps[step] for size, steps in table.items()}


def growth_of(values: Mapping[float, float]) -> float:
    """How many times the two smallest numbers the two largest take; of each pair, the geometric mean."""
    ordered = [values[size] for size in sorted(values)]
    return statistics.geometric_mean(ordered[-2:]) / statistics.geometric_mean(ordered[:2])


def is_too_fast(table: Table, step: str) -> bool:
    """Does this step grow faster than the storage's own index?"""
    floor = STEPS[step]
    if floor is None:
        return False
    grown = growth_of(row(table, step))
    return grown > NOISE and grown > 2 * growth_of(row(table, floor))
