"""No update is lost in one process, whatever the interleaving of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mutations import no_turns, no_versions

from chatsession import SessionManager
from tools.histories.counting import Counter, Tally, count_up, keys_of_updates, stored_states
from tools.histories.history import HistoryFile, find_faults, read_history


@pytest.fixture(params=["memory:", "sqlite:///{}/bot.db"], ids=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.param.format(tmp_path)


async def _count(
    sessions: SessionManager[Counter], folder: Path, updates: int, keys: int, in_flight: int = 200
) -> tuple[Tally, list[str]]:
    """Count up and check: how it went, and what cannot have happened."""
    path = folder / "history.jsonl"
    async with sessions:
        with HistoryFile(path) as history:
            chosen = keys_of_updates(updates, keys)
            tally = await count_up(sessions, chosen, history, name="tasks", in_flight=in_flight)
        states = await stored_states(sessions, set(chosen))
    return tally, find_faults(read_history([path]), states)


@pytest.mark.parametrize(("updates", "keys"), [(2_000, 1), (20_000, 1_000)], ids=["one chat", "1000 chats"])
async def test_the_sum_is_exact(url: str, tmp_path: Path, updates: int, keys: int) -> None:
    sessions = SessionManager(Counter, storage=url)
    tally, faults = await _count(sessions, tmp_path, updates, keys)
    assert tally.errors == []
    assert tally.committed == updates
    assert faults == []
    async with sessions:
        counts = [counter.count async for _, counter in sessions.entries()]
    assert counts == [updates // keys] * keys


async def test_optimistic_updates_that_were_acknowledged_are_all_there(url: str, tmp_path: Path) -> None:
    sessions = SessionManager(Counter, storage=url, concurrency="optimistic")
    tally, faults = await _count(sessions, tmp_path, 1_000, 20)
    assert faults == []
    assert all(error.startswith("SessionConflictError") for error in tally.errors)
    assert tally.errors, "without any conflict, this proves nothing"


@pytest.mark.parametrize("break_it", [no_turns, no_versions], ids=["no turns", "no versions"])
async def test_one_guard_alone_still_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    break_it: Callable[[SessionManager[Counter], pytest.MonkeyPatch], None],
) -> None:
    sessions = SessionManager(Counter, storage="memory:")
    break_it(sessions, monkeypatch)
    tally, faults = await _count(sessions, tmp_path, 1_000, 10)
    assert faults == []
    assert bool(tally.errors) == (break_it is no_turns), "without turns, the version check refuses many"


async def test_without_turns_and_versions_the_check_finds_lost_updates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sessions = SessionManager(Counter, storage="memory:")
    no_turns(sessions, monkeypatch)
    no_versions(sessions, monkeypatch)
    _, faults = await _count(sessions, tmp_path, 1_000, 10)
    assert any("is lost" in fault for fault in faults)


async def test_without_protection_the_check_finds_lost_updates(url: str, tmp_path: Path) -> None:
    sessions = SessionManager(Counter, storage=url, concurrency="last-write-wins")
    tally, faults = await _count(sessions, tmp_path, 1_000, 10)
    assert tally.errors == []
    assert any("is lost" in fault for fault in faults)
