"""Reads and changes many entries at a time: read, decide, compare and swap, and repeat where needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from msgspec.structs import replace

from chatsession.errors import SessionError, StorageError, StorageUnavailableError
from chatsession.storages.base import Lease, Locked
from chatsession.storages.nats._bucket import Bucket, Done, Put, Stale
from chatsession.storages.nats._calls import Calls, message_id
from chatsession.storages.nats._eras import ERA_NAME, Eras
from chatsession.storages.nats._errors import of_key
from chatsession.storages.nats._names import name_of
from chatsession.storages.nats._operations import Decision, Write, carried
from chatsession.storages.nats._records import Entry, Stored, replacing

Answer = TypeVar("Answer")
Decide: TypeAlias = Callable[[Stored, float], Decision[Answer]]

_FEW_HELD = 1000


class Entries:
    """The entries of a bucket, as one connection sees them.

    Args:
        calls: the connection.
        bucket: the bucket.
        retry_for: seconds in which a change is repeated while others are faster.
    """

    def __init__(self, calls: Calls, bucket: Bucket, retry_for: float) -> None:
        self.calls = calls
        self.bucket = bucket
        self._retry_for = retry_for
        self.eras = Eras(bucket, lambda: calls.client.stats["reconnects"])
        self._held: dict[str, Stored] = {}
        self._many_held = _FEW_HELD
        self._reconnects = calls.client.stats["reconnects"]
        self._chores: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for the tasks in the background."""
        if self._chores:
            await asyncio.wait(self._chores)

    def forget(self, key: str) -> None:
        """Forget the state of a key that is no longer locked here."""
        self._held.pop(key, None)

    async def transact(
        self, decide: Mapping[str, Decide[Answer]], leases: Iterable[Lease | None] = ()
    ) -> list[Answer | SessionError]:
        """Decide about each key by its state, and carry the decisions out.

        Args:
            decide: for each key, what to do in which state.
            leases: of keys that may have been locked here, so that their states need not be read.

        Returns:
            In the order of the keys: the answer, or the error that concerns only this key.
        """
        keys = list(decide)
        states = self._held_by(leases)
        supposed = set(states)
        results: dict[str, Answer | SessionError] = {}
        names = _names(keys, results)
        try:
            await self.bucket.keep_clock()
        except StorageError as error:
            return [results.get(key) or of_key(error, key) for key in keys]
        end = asyncio.get_running_loop().time() + self._retry_for
        rounds = 0
        while waiting := [key for key in keys if key not in results]:
            if rounds > 1:
                await asyncio.sleep(random.uniform(0.0, 0.002 * min(rounds, 10)))
            if rounds and asyncio.get_running_loop().time() > end:
                results.update(
                    {key: of_key(StorageUnavailableError("others were faster each time"), key) for key in waiting}
                )
                break
            rounds += 1
            if unread := [key for key in waiting if key not in states]:
                for key, found in zip(unread, await self._read([names[key] for key in unread]), strict=True):
                    if isinstance(found, Stored):
                        states[key] = found
                    else:
                        results[key] = of_key(found, key)
            now = self.bucket.now()
            writes: dict[str, tuple[Write[Answer], Stored]] = {}
            for key in waiting:
                if key not in states:
                    continue
                decision = decide[key](states[key], now)
                if isinstance(decision, Write):
                    writes[key] = decision, states.pop(key)
                elif key in supposed:  # without a write, nothing tells whether this is the state
                    del states[key]
                else:
                    results[key] = decision
            supposed.clear()
            if writes:
                results |= await self._store(names, writes, now)
        return [results[key] for key in keys]

    async def _read(self, names: Sequence[str]) -> Sequence[Stored | StorageError]:
        *found, era = await self.bucket.get_all([*names, ERA_NAME])
        self.eras.adopt(era)
        return found

    async def _store(
        self, names: Mapping[str, str], writes: Mapping[str, tuple[Write[Answer], Stored]], now: float
    ) -> dict[str, Answer | SessionError]:
        """Make the changes whose revision is still the newest. The others are missing in the result."""
        try:
            await self.eras.keep()
        except StorageError as error:
            return {key: of_key(error, key) for key in writes}
        results: dict[str, Answer | SessionError] = {}
        puts = [self._put(names[key], write.value, write.entry, stored, now) for key, (write, stored) in writes.items()]
        own, newest = self.eras.own, self.eras.newest_revision
        outcomes = await self.bucket.put_all(puts)
        for (key, (write, _)), put, found in zip(writes.items(), puts, outcomes, strict=True):
            made, outcome = put, found
            if isinstance(found, Done):
                made, outcome = await self._in_lasting_era(own, newest, put, found)
            elif isinstance(found, Stale) and found.in_doubt:
                outcome = await self._clear_up(put)
            if isinstance(outcome, Done):
                results[key] = await self._stored(key, made, write, outcome)
            elif isinstance(outcome, StorageError):
                results[key] = of_key(outcome, key)
        return results

    async def _stored(self, key: str, put: Put, write: Write[Answer], done: Done) -> Answer:
        stored = Stored(done.revision, put.value, put.entry, put.message_id)
        answer = write.answer(stored)
        if isinstance(answer, Locked) or key in self._held:
            self._hold(key, stored)
        if write.wake is not None:
            await self.calls.wake(write.wake.inbox, write.wake.waiter)
        if put.entry.is_nothing() and not self.bucket.expires_by_itself:
            self._do_later(self.bucket.purge(put.name, below=done.revision + 1))
        return answer

    async def _in_lasting_era(self, own: int, newest: int, put: Put, done: Done) -> tuple[Put, Done | StorageError]:
        """Store a message again if its revision may be that of a message that the server has lost.

        It stays as it is if others have changed the entry since.
        """
        try:
            if not await self.eras.outlasted(own, newest, done):
                return put, done
        except StorageError as error:
            return put, error
        entry = replace(put.entry, era=self.eras.current if put.entry.era else 0)
        repeated = replace(put, entry=entry, last=done.revision, message_id=message_id())
        (outcome,) = await self.bucket.put_all([repeated])
        return (put, done) if isinstance(outcome, Stale) else (repeated, outcome)

    async def _clear_up(self, put: Put) -> Done | StorageError:
        """Find out whether a change that was sent more than once, and is stale now, was made the first time.

        If others have changed the entry since, the server is asked for the message ids that it remembers: the present
        state is stored again under the id of the change. Either the server has seen that id, or nothing changes.
        """
        asked = False
        for _ in range(10):
            (stored,) = await self.bucket.get_all([put.name])
            if isinstance(stored, StorageError):
                return stored
            if stored.message_id == put.message_id:
                if asked:
                    break  # this message is the question itself
                return Done(stored.revision)
            now = self.bucket.now()
            (outcome,) = await self.bucket.put_all(
                [replace(self._put(put.name, *carried(stored, now), stored, now), message_id=put.message_id)]
            )
            asked = True
            if isinstance(outcome, Done):
                # The question may have arrived twice too. The change that it asks about is older than the stored state.
                if outcome.duplicate and outcome.revision <= stored.revision:
                    return outcome
                break
        return StorageUnavailableError(
            "the connection was cut in the middle of the change, and others have changed it since; "
            "it is not known whether the change was made"
        )

    def _put(self, name: str, value: bytes, entry: Entry, stored: Stored, now: float) -> Put:
        """A message that replaces the stored one."""
        era = max(self.eras.current, stored.entry.era)
        entry = replace(replacing(stored.entry, entry, now), era=0 if entry.is_nothing() else era)
        return Put(name, value, entry, stored.revision, message_id(), now)

    def _hold(self, key: str, stored: Stored) -> None:
        self._held[key] = stored
        if len(self._held) > self._many_held:  # handlers that lost their lease do not unlock
            now = self.bucket.now()
            self._held = {key: held for key, held in self._held.items() if held.entry.is_locked(now)}
            self._many_held = 2 * len(self._held) + _FEW_HELD

    def _held_by(self, leases: Iterable[Lease | None]) -> dict[str, Stored]:
        """The states of keys that were locked here. A write fails if one is out of date."""
        reconnects = self.calls.client.stats["reconnects"]
        if reconnects != self._reconnects:  # a server that was restarted may have lost its last messages
            self._reconnects = reconnects
            self._held.clear()
        held = self._held
        return {
            lease.key: stored
            for lease in leases
            if lease is not None and (stored := held.get(lease.key)) is not None and stored.token == lease.token
        }

    def _do_later(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled():
            task.exception()  # a sweep finds what could not be removed now


def _names(keys: Sequence[str], results: dict[str, Answer | SessionError]) -> dict[str, str]:
    names: dict[str, str] = {}
    for key in keys:
        try:
            names[key] = name_of(key)
        except SessionError as error:
            results[key] = error
    return names
