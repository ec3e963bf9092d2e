"""The conformance suite goes red for storages with one thing wrong."""

from __future__ import annotations

import asyncio
import inspect
import pkgutil
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import ModuleType
from typing import Any, cast

import broken
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from chatsession import MemoryStorage
from chatsession.storages import Action
from chatsession.testing import conformance, integration_suite
from chatsession.testing.conformance.model import PROGRAMS, Step, run_program
from chatsession.testing.storages import MovableClock, StorageConformance, Time

Suite = StorageConformance
RED = (AssertionError, pytest.fail.Exception, ExceptionGroup)

CASES = [
    (broken.IgnoresVersions, Suite.test_a_change_that_expects_absence_only_creates, {}),
    (broken.IgnoresVersions, Suite.test_an_old_version_changes_nothing, {"action": Action.PUT}),
    (broken.IgnoresVersions, Suite.test_an_old_version_changes_nothing, {"action": Action.DELETE}),
    (broken.IgnoresVersions, Suite.test_of_many_that_create_one_succeeds, {}),
    (broken.IgnoresVersions, Suite.test_counting_by_compare_and_swap_from_many_tasks, {}),
    (broken.IgnoresVersions, Suite.test_a_full_batch_of_everything, {}),
    (broken.IgnoresVersions, Suite.test_the_second_of_two_optimistic_commits_conflicts, {}),
    (broken.IgnoresVersions, Suite.test_no_update_is_lost_by_update, {}),
    (broken.IgnoresLeases, Suite.test_a_lost_lease_changes_nothing, {"action": Action.PUT}),
    (broken.IgnoresLeases, Suite.test_a_lost_lease_does_not_create_what_is_missing, {}),
    (broken.IgnoresLeases, Suite.test_a_made_up_lease_is_lost, {}),
    (broken.IgnoresLeases, Suite.test_unlocking_twice_takes_the_lock_from_nobody, {}),
    (broken.IgnoresEndedLeases, Suite.test_a_lease_stays_lost_when_the_next_holder_is_done, {}),
    (broken.IgnoresEndedLeases, Suite.test_a_lease_that_was_given_back_is_lost, {}),
    (broken.IgnoresEndedLeases, Suite.test_a_batch_of_held_and_lost_leases, {}),
    (broken.LocksTwice, Suite.test_a_held_key_is_busy_for_all_others, {}),
    (broken.LocksTwice, Suite.test_one_of_many_gets_the_lock, {}),
    (broken.LocksTwice, Suite.test_locks_of_many_keys_are_counted_up_exactly, {}),
    (broken.NeverFreesDeadHolders, Suite.test_a_lease_that_ran_out_counts_as_free, {}),
    (broken.NeverFreesDeadHolders, Suite.test_a_waiter_gets_an_expired_lease, {}),
    (broken.IsUnfair, Suite.test_waiters_are_served_in_order, {}),
    (broken.KeepsAbandonedWishes, Suite.test_an_abandoned_place_in_the_queue_is_given_up, {}),
    (broken.KeepsAbandonedWishes, Suite.test_a_cancelled_waiter_leaves_no_lock, {}),
    (broken.KeepsAbandonedWishes, Suite.test_to_abandon_what_the_key_was_just_unlocked_for, {}),
    (broken.StaysLockedOnConflict, Suite.test_a_conflict_unlocks_too, {"action": Action.PUT}),
    (broken.DoesNotRenew, Suite.test_a_renewed_lease_does_not_run_out, {}),
    (broken.DoesNotRenew, Suite.test_renewing_many_tells_which_are_lost, {}),
    (broken.StartsTokensAgain, Suite.test_tokens_grow_for_ever, {}),
    (broken.StartsTokensAgain, Suite.test_a_lost_lease_changes_nothing, {"action": Action.PUT}),
    (broken.FoldsCase, Suite.test_every_key_is_stored_or_refused_and_none_is_another, {}),
    (broken.FoldsCase, Suite.test_every_stored_key_is_enumerated_as_it_is, {}),
    (broken.LocksByPrefix, Suite.test_locking_one_key_locks_no_other, {}),
    (broken.TakesEmptyForMissing, Suite.test_bytes_are_read_as_they_were_stored, {"value": b""}),
    (broken.NeverExpires, Suite.test_an_expired_session_reads_as_missing, {}),
    (broken.NeverExpires, Suite.test_an_expired_session_is_not_enumerated, {}),
    (broken.NeverExpires, Suite.test_a_session_is_forgotten_when_its_time_to_live_is_over, {}),
    (broken.BringsBackTheDead, Suite.test_an_old_version_never_brings_back_what_was_deleted, {"action": Action.PUT}),
    (broken.BringsBackTheDead, Suite.test_an_expired_session_reads_as_missing, {}),
    (broken.TouchRewrites, Suite.test_touch_does_not_rewrite_a_newer_value, {}),
    (broken.TouchDoesNothing, Suite.test_touch_counts_from_now_on, {}),
    (broken.PutKeepsTheOldEnd, Suite.test_put_without_a_time_to_live_takes_it_off, {}),
    (broken.SweepsWhatWasPutAgain, Suite.test_sweeping_takes_what_is_over_and_nothing_else, {}),
    (broken.MixesUpBatches, Suite.test_results_stand_in_the_order_of_the_keys, {}),
    (broken.TakesPrefixesForPatterns, Suite.test_a_prefix_is_taken_literally, {}),
    (broken.SkipsWhatMoves, Suite.test_a_scan_gives_each_lasting_key_while_others_come_and_go, {}),
    (broken.SkipsWhatMoves, Suite.test_a_key_may_be_deleted_once_it_is_enumerated, {}),
]


@pytest.mark.parametrize(
    ("storage_class", "test", "arguments"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1].__name__.removeprefix('test_')}") for case in CASES],
)
async def test_a_broken_storage_fails(
    storage_class: type[MemoryStorage], test: Callable[..., Awaitable[None]], arguments: dict[str, object]
) -> None:
    with pytest.raises(RED):
        await _run(storage_class, test, arguments)


async def _run(
    storage_class: type[MemoryStorage], test: Callable[..., Awaitable[None]], arguments: dict[str, object]
) -> None:
    clock = MovableClock()
    async with storage_class(clock=clock) as storage:

        async def open_another() -> MemoryStorage:
            return storage

        fixtures = {
            "storage": storage,
            "other": storage,
            "time": Time(clock, 1.0),
            "open_another": open_another,
            **arguments,
        }
        wanted = [name for name in inspect.signature(test).parameters if name != "self"]
        await test(StorageConformance(), **{name: fixtures[name] for name in wanted})


@pytest.mark.parametrize(
    "storage_class",
    [
        broken.IgnoresVersions,
        broken.IgnoresLeases,
        broken.LocksTwice,
        broken.NeverFreesDeadHolders,
        broken.KeepsAbandonedWishes,
        broken.StaysLockedOnConflict,
        broken.StartsTokensAgain,
        broken.NeverExpires,
        broken.BringsBackTheDead,
        broken.TouchDoesNothing,
        broken.PutKeepsTheOldEnd,
        broken.MixesUpBatches,
        broken.FoldsCase,
    ],
)
def test_random_programs_find_what_is_broken(storage_class: type[MemoryStorage]) -> None:
    @settings(
        max_examples=1_000,
        database=None,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate],  # that one fails is enough, it need not be a short one
        suppress_health_check=list(HealthCheck),
    )
    @given(program=PROGRAMS)
    def try_programs(program: list[Step]) -> None:
        clock = MovableClock()
        storage = storage_class(clock=clock)
        asyncio.run(run_program(program, (storage, storage), Time(clock, 1.0)))

    with pytest.raises(AssertionError):
        cast("Any", try_programs)()


def test_the_suite_has_all_tests_of_all_its_parts() -> None:
    """Two parts with a test of the same name would silently lose one."""
    tests = [name for part in Suite.__bases__ for name in vars(part) if name.startswith("test_")]
    assert sorted(tests) == sorted(name for name in dir(Suite) if name.startswith("test_"))


@pytest.mark.parametrize("suite", [conformance, integration_suite], ids=["storages", "integrations"])
def test_a_failure_of_a_suite_tells_the_values(suite: ModuleType) -> None:
    for part in pkgutil.iter_modules(suite.__path__, f"{suite.__name__}."):
        assert type(import_module(part.name).__loader__).__name__ == "AssertionRewritingHook", part.name
