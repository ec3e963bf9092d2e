"""Guards taken out on purpose, so that a campaign proves that it would notice: `--mutation NAME`.

Each is called in every worker with the manager before anything else, and changes the library in that process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from chatsession.coordination.batching import UncancellableFuture
from chatsession.coordination.commits import CommitQueue
from chatsession.coordination.group_commit import CommitPipeline, with_known_version
from chatsession.coordination.key_queue import KeyQueue
from chatsession.coordination.leases import LeaseRenewer
from chatsession.manager import SessionManager
from chatsession.serialization.decoded_cache import DecodedCache
from chatsession.storages import Action, Change, Committed, Expect, Outcome
from chatsession.unit_of_work.loaded import Loaded
from chatsession.unit_of_work.unit import UnitOfWork
from tools.histories.counting import Counter

Sessions: TypeAlias = SessionManager[Counter]


def no_turns_no_versions(sessions: Sessions) -> None:
    """Updates of one process do not wait for each other, and every commit is made, whatever is stored."""
    no_leases_no_versions(sessions)

    def try_enter(self: KeyQueue[object], key: str, task: asyncio.Task[object] | None) -> bool:
        return True

    def release(self: KeyQueue[object], key: str, handover: object = None) -> None:
        return None

    _take_out(KeyQueue, "try_enter", try_enter)
    _take_out(KeyQueue, "release", release)


def no_leases(sessions: Sessions) -> None:
    """Other processes are not waited for."""
    _take_out(sessions.runtime.coordinator, "_shared", False)


def no_versions(_: Sessions) -> None:
    """Every commit is made, whatever is stored."""
    change = Loaded[Any]._change

    def anything(loaded: Loaded[Any], *arguments: Any, **options: Any) -> Change:
        return replace(change(loaded, *arguments, **options), expect=Expect.ANYTHING)

    _take_out(Loaded, "_change", anything)


def _no_versions_where_locked() -> None:
    """Leaves those alone that nothing but versions guards, and that would go red whatever else is missing."""
    change = Loaded[Any]._change

    def anything(loaded: Loaded[Any], *arguments: Any, **options: Any) -> Change:
        made = change(loaded, *arguments, **options)
        return replace(made, expect=Expect.ANYTHING) if loaded.runtime.exclusive else made

    _take_out(Loaded, "_change", anything)


def no_leases_no_versions(sessions: Sessions) -> None:
    """Neither is another process waited for, nor is it seen that one was faster."""
    no_leases(sessions)
    _no_versions_where_locked()


def no_fencing_no_versions(sessions: Sessions) -> None:
    """A commit is made also if its lease has ended meanwhile, and another process has the key."""
    storage = sessions.storage
    commit_many = storage.commit_many

    async def commit_blindly(changes: Sequence[Change]) -> Sequence[Outcome]:
        blind = [_blind(change) if change.lease is not None else change for change in changes]
        outcomes = await commit_many(blind)
        unlocking = [Change(each.key, Action.KEEP, lease=each.lease, unlock=True) for each in changes if each.unlock]
        if unlocking:
            await commit_many(unlocking)
        return outcomes

    _take_out(sessions.runtime.coordinator._commits._batches, "_call", commit_blindly)


def _blind(change: Change) -> Change:
    return replace(change, expect=Expect.ANYTHING, lease=None, unlock=False)


def no_doubt_about_leases_no_versions_no_fencing(sessions: Sessions) -> None:
    """A process that stood still trusts what it kept."""
    no_fencing_no_versions(sessions)
    _take_out(LeaseRenewer, "certainly_held", lambda *_: True)


def no_failed_handlers(_: Sessions) -> None:
    """What a handler changed before it failed is stored."""
    abort = UnitOfWork[Any].abort

    async def commit(unit: UnitOfWork[Any]) -> None:
        if unit.acquired is not None:
            left = unit._leave()
            if left is not None and not isinstance(left, Committed):
                await left
        await abort(unit)

    _take_out(UnitOfWork, "abort", commit)


def no_shield(_: Sessions) -> None:
    """A cancellation takes effect at once, in the middle of a commit, whose outcome then nobody hears of."""

    def send(commits: CommitQueue, change: Change) -> _Abandoned:
        change = with_known_version(change)
        batch = commits._batches.add(change.key, change)
        return _Abandoned(asyncio.shield(_told(batch.done)), batch.result)

    _take_out(CommitQueue, "send", send)


def no_failing_together(_: Sessions) -> None:
    """An update that changed nothing is done, whatever becomes of the one before it, whose data it was given."""
    _take_out(CommitQueue, "uncommitted", lambda *_: None)


def no_end_of_a_chain_no_versions(sessions: Sessions) -> None:
    """An update is committed although the one before it, whose data it was given, was not."""
    _no_versions_where_locked()

    def over(commits: CommitQueue, chain: CommitPipeline) -> None:
        commits._pipelines.pop(chain.lease)

    _take_out(CommitQueue, "_over", over)


def no_memory_of_commits(_: Sessions) -> None:
    """A commit whose answer was lost is sent again as if it were the first."""
    from chatsession.storages.postgres import _calls as postgres
    from chatsession.storages.redis import _storage as redis
    from chatsession.storages.redis._scripts import Script

    looks = b"local remembered = redis.pcall('GET', KEYS[1])"
    if looks not in redis.COMMIT.source:
        raise AttributeError("the script that commits looks elsewhere for what is remembered; mend the mutation")
    source = redis.COMMIT.source.replace(looks, b"local remembered")

    async def attempt(self: Any, call: Any, trial: Any) -> Any:
        async with postgres.borrowed(self._connections) as connection:
            trial.tries += 1
            return await call(connection, False)

    _take_out(redis, "COMMIT", Script(source, sha1(source, usedforsecurity=False).hexdigest()))
    _take_out(postgres.Calls, "_try", attempt)


def no_look_at_ready_values(_: Sessions) -> None:
    """The value that was decoded last is handed out, whatever is stored now."""

    def whatever(self: DecodedCache[Any], key: str, data: bytes) -> Any:
        found = self._values.pop(key, None)
        return None if found is None else found[1]

    _take_out(DecodedCache, "take", whatever)


class _Abandoned(NamedTuple):
    done: asyncio.Future[None]
    result: Callable[[str], Outcome]


async def _told(done: UncancellableFuture) -> None:
    await done


def _take_out(owner: object, guard: str, instead: Callable[..., Any] | bool | tuple[bytes, str]) -> None:
    """Put something else in the place of a guard, which must be there: or nothing would be taken out."""
    if not hasattr(owner, guard):
        raise AttributeError(f"{owner!r} has no {guard} any more; mend the mutation")
    setattr(owner, guard, instead)
