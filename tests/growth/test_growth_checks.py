"""The growth runs give no figure for work that was not done, and say of a step that grows too fast that it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from chatsession import MemoryStorage
from chatsession.storages import Change, Committed, Outcome
from tools.benchmarks._growth_chats import SMALL, key_of, some_of, stored, updates
from tools.benchmarks._growth_filled import Filled, fill, sqlite
from tools.benchmarks._growth_steps import measured
from tools.benchmarks._growth_verdict import STEPS, too_fast
from tools.benchmarks._measure import WorkNotDoneError


class Forgetful(MemoryStorage):
    """Says of every seventh commit that it was made, and does not make it."""

    def __init__(self) -> None:
        super().__init__()
        self._commits = 0

    def commit(self, change: Change) -> Outcome:
        self._commits += 1
        return super().commit(change) if self._commits % 7 else Committed(None)


async def test_updates_are_counted() -> None:
    tally = Counter[str]()
    async with MemoryStorage() as storage:
        figure = await updates(storage, some_of(3), 5, 0.02, tally)
    assert figure.updates == tally.total() > 0
    assert 0 < figure.quantile(0.5) <= figure.quantile(0.99)


async def test_updates_that_were_not_made_have_no_figure() -> None:
    async with Forgetful() as storage:
        with pytest.raises(WorkNotDoneError, match="but is stored with"):
            await updates(storage, some_of(1), 20, 0.2, Counter())


async def test_sessions_have_the_size_that_was_asked_for() -> None:
    assert [len(stored(size)) for size in (SMALL, 1_000, 1_000_000)] == [SMALL, 1_000, 1_000_000]


async def test_all_steps_are_measured_on_what_was_loaded(tmp_path: Path) -> None:
    async with sqlite(tmp_path) as make:
        filled = make(2_000)
        await fill(filled)
        steps = await measured(filled, 0.02)
        async with filled.storage() as storage:
            (first, last, beyond) = await storage.read_many([key_of(0), key_of(1_999), key_of(2_000)])
    assert set(steps) == set(STEPS)
    assert all(took > 0 for took in steps.values())
    assert first is not None
    assert last is not None
    assert beyond is None


async def test_a_load_that_left_some_out_has_no_figure(tmp_path: Path) -> None:
    async with sqlite(tmp_path) as make:
        filled: Filled = make(100)
        filled.sessions = 99
        await filled.load()
        filled.sessions = 100
        with pytest.raises(WorkNotDoneError, match="99 of 100"):
            await _count_again(filled)


async def _count_again(filled: Filled) -> None:
    async def already() -> None:
        pass

    filled.load = already  # type: ignore[method-assign] - what was loaded stays as it is
    await fill(filled)


def _grown(stats: Sequence[float]) -> list[str]:
    steps = dict.fromkeys(STEPS, 1.0)
    return too_fast({"SQLite": {str(10**n): {**steps, "stats": took} for n, took in enumerate(stats, 3)}})


def test_what_grows_with_the_sessions_is_said() -> None:
    assert _grown([1.0, 3.0, 9.0, 27.0, 81.0]) == ["SQLite, stats"]


def test_one_figure_alone_makes_no_growth() -> None:
    assert _grown([0.2, 1.0, 1.0, 1.0, 1.0]) == []


def test_what_grows_no_more_than_the_index_is_well() -> None:
    assert _grown([1.0, 1.5, 2.9, 2.0, 3.0]) == []
