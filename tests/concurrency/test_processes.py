"""No update is lost by several processes that share a storage, also when one of them is killed or stalls."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import Place

from tools.histories.processes import Workers
from tools.histories.worker import Count, Held, Hold, Release, Released, Told

HERE = Path(__file__).parent


@pytest.mark.parametrize(("updates", "keys"), [(2_000, 1), (20_000, 1_000)], ids=["one chat", "1000 chats"])
async def test_the_sum_is_exact(place: Place, tmp_path: Path, updates: int, keys: int) -> None:
    updates = int(updates * place.effort)
    async with Workers(place.url, tmp_path) as workers:
        committed, errors = await workers.count(updates, keys)
        assert errors == []
        assert committed == updates
        assert await workers.faults() == []
        assert await workers.total() == updates


async def test_kill_9_loses_no_acknowledged_update_and_blocks_no_chat_for_longer_than_the_lease(
    place: Place, tmp_path: Path
) -> None:
    updates, keys = int(4_000 * place.effort), 40
    async with Workers(place.url, tmp_path, lock_lease=place.lease, lock_timeout=100) as workers:
        victim, *others = [workers[n] for n in range(4)]
        await workers.start(others, Count(updates=updates, keys=keys, again=True))
        await victim.tell(Count(updates=updates, keys=keys, tell_after=updates // 16, again=True))
        await victim.answer(Told)
        await victim.kill()
        _, errors = await workers.finished(others)
        assert errors == [], "a chat was blocked for longer than the lease"

        await others[0].tell(Count(updates=keys, keys=keys, again=True))
        assert await workers.finished(others[:1]) == (keys, [])
        assert await workers.faults() == []


async def test_the_key_of_a_holder_that_was_killed_is_free_after_the_lease(place: Place, tmp_path: Path) -> None:
    async with Workers(place.url, tmp_path, count=2, lock_lease=place.lease, lock_timeout=100) as workers:
        victim, other = workers[0], workers[1]
        await victim.tell(Hold("chat:0"))
        await victim.answer(Held)
        await other.tell(Count(updates=5, keys=1, again=True))
        await victim.kill()
        assert await workers.finished([other]) == (5, [])
        assert await workers.faults() == []
        assert await workers.total() == 5


async def test_a_holder_stalled_for_longer_than_its_lease_conflicts_and_overwrites_nothing(
    place: Place, tmp_path: Path
) -> None:
    async with Workers(place.url, tmp_path, count=2, lock_lease=place.lease, lock_timeout=100) as workers:
        assert await _stall(workers) == "SessionConflictError"
        assert await workers.total() == 8
        await workers[0].tell(Count(updates=2, keys=1, again=True))
        assert await workers.finished([workers[0]]) == (2, [])
        assert await workers.faults() == []
        assert await workers.total() == 10


async def test_a_stalled_holder_that_overwrites_is_found(tmp_path: Path) -> None:
    """With the checks of lease and version taken out, the test above would fail."""
    async with Workers(
        f"sqlite:///{tmp_path}/bot.db",
        tmp_path,
        count=2,
        lock_lease=1.0,
        setup="mutations:worker_without_fencing",
        path=[HERE],
    ) as workers:
        assert await _stall(workers) is None
        assert await workers.total() < 9
        assert await workers.faults() != []


async def _stall(workers: Workers) -> str | None:
    """Stop the first worker in a handler for longer than its lease; gives what its commit ended with after all."""
    stalled, other = workers[0], workers[1]
    await other.tell(Count(updates=3, keys=1, again=True))
    assert await workers.finished([other]) == (3, [])
    await stalled.tell(Hold("chat:0"))
    await stalled.answer(Held)
    stalled.stop()
    await other.tell(Count(updates=5, keys=1, again=True))
    assert await workers.finished([other]) == (5, [])  # which is not before the lease of the first has run out
    stalled.resume()
    await stalled.tell(Release())
    return (await stalled.answer(Released)).error


async def test_a_holder_that_works_for_longer_than_its_lease_keeps_it(place: Place, tmp_path: Path) -> None:
    async with Workers(place.url, tmp_path, count=2, lock_lease=3.0, lock_timeout=4.5) as workers:
        holder, waiting = workers[0], workers[1]
        await holder.tell(Hold("chat:0"))
        await holder.answer(Held)
        await waiting.tell(Count(updates=1, keys=1))
        committed, errors = await workers.finished([waiting])
        assert committed == 0
        assert errors[0].startswith("SessionLockTimeoutError")
        await holder.tell(Release())
        assert (await holder.answer(Released)).error is None
        assert await workers.faults() == []
        assert await workers.total() == 1


@pytest.mark.parametrize(
    ("mutation", "red"),
    [
        ("worker_without_leases_and_versions", True),
        ("worker_without_leases", False),
        ("worker_without_versions", False),
        ("worker_without_turns", False),
    ],
)
async def test_these_tests_go_red_when_the_guards_are_taken_out(tmp_path: Path, mutation: str, red: bool) -> None:
    """Lease and version check each hold alone; without both, updates are lost, and the check says so."""
    async with Workers(f"sqlite:///{tmp_path}/bot.db", tmp_path, setup=f"mutations:{mutation}", path=[HERE]) as workers:
        committed, errors = await workers.count(800, 4)
        faults = await workers.faults()
        total = await workers.total()
    assert all(error.startswith("SessionConflictError") for error in errors)
    assert bool(errors) == (mutation == "worker_without_leases"), "without a lease, the version check refuses many"
    assert any("is lost" in fault for fault in faults) == red
    assert (total < committed) == red
    assert bool(faults) == red
