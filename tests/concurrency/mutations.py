"""Guards taken out on purpose, so that the tests prove that they would notice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from chatsession import SessionManager
from chatsession.coordination.key_queue import KeyQueue
from chatsession.storages import Action, Change, Expect, Outcome
from chatsession.unit_of_work.loaded import Loaded
from tools.histories.counting import Counter


def no_turns(_: SessionManager[Counter], patch: pytest.MonkeyPatch) -> None:
    """Everybody has the turn at once."""

    def try_enter(self: KeyQueue[object], key: str, task: asyncio.Task[object] | None) -> bool:
        return True

    def has_waiters(self: KeyQueue[object], key: str) -> bool:
        return False

    def release(self: KeyQueue[object], key: str, handover: object = None) -> bool:
        return False

    for method in (try_enter, has_waiters, release):
        patch.setattr(KeyQueue, method.__name__, method)


def no_versions(_: SessionManager[Counter], patch: pytest.MonkeyPatch) -> None:
    """Every commit is made, whatever is stored."""
    change = Loaded[Counter]._change

    def blind(loaded: Loaded[Counter], *arguments: Any, **options: Any) -> Change:
        return msgspec.structs.replace(change(loaded, *arguments, **options), expect=Expect.ANYTHING)

    patch.setattr(Loaded, "_change", blind)


def no_leases(sessions: SessionManager[Counter], patch: pytest.MonkeyPatch) -> None:
    """Other processes are not thought of."""
    patch.setattr(sessions.runtime.coordinator, "_shared", False)


def no_fencing(sessions: SessionManager[Counter], patch: pytest.MonkeyPatch) -> None:
    """The storage looks at no lease and no version when it commits."""
    storage = sessions.storage
    commit_many = storage.commit_many

    async def commit_blindly(changes: Sequence[Change]) -> Sequence[Outcome]:
        blind = [
            msgspec.structs.replace(change, expect=Expect.ANYTHING, lease=None, unlock=False) for change in changes
        ]
        outcomes = await commit_many(blind)
        unlocking = [Change(each.key, Action.KEEP, lease=each.lease, unlock=True) for each in changes if each.unlock]
        await commit_many(unlocking)
        return outcomes

    # The coordinator has taken the method along when it was made.
    patch.setattr(sessions.runtime.coordinator._commits._batches, "_call", commit_blindly)


# For workers, which are processes of their own and need not be put right again.


def worker_without_leases(sessions: SessionManager[Counter]) -> None:
    no_leases(sessions, pytest.MonkeyPatch())


def worker_without_versions(sessions: SessionManager[Counter]) -> None:
    no_versions(sessions, pytest.MonkeyPatch())


def worker_without_turns(sessions: SessionManager[Counter]) -> None:
    no_turns(sessions, pytest.MonkeyPatch())


def worker_without_fencing(sessions: SessionManager[Counter]) -> None:
    no_fencing(sessions, pytest.MonkeyPatch())


def worker_without_leases_and_versions(sessions: SessionManager[Counter]) -> None:
    worker_without_leases(sessions)
    worker_without_versions(sessions)
