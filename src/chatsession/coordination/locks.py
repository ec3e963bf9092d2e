"""Locks of keys, asked for together with those of other keys, and waited for while other processes have them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from itertools import count

from chatsession.coordination.batching import Batcher, log_failure
from chatsession.coordination.leases import Asked, LeaseRenewer
from chatsession.errors import SessionLockTimeoutError
from chatsession.storages import Lease, Locked, LockRequest, Storage


class Locks:
    """All locks of one storage, for holders of the turn of their key.

    Args:
        storage: where keys are locked.
        leases: renews what was granted.
        unlock: gives a lease back.
    """

    __slots__ = ("_abandons", "_leases", "_locks", "_names", "_storage", "_unlock")

    def __init__(self, storage: Storage, leases: LeaseRenewer, unlock: Callable[[Lease], object]) -> None:
        self._storage = storage
        self._leases = leases
        self._unlock = unlock
        size, in_flight = storage.batch_size, storage.batches_in_flight
        self._locks: Batcher[LockRequest, Locked | None] = Batcher(storage.lock_many, size=size, in_flight=in_flight)
        self._abandons: Batcher[LockRequest, None] = Batcher(self._abandon_many, size=size, in_flight=in_flight)
        self._names = map(f"{secrets.token_hex(8)}-{{}}".format, count(1))

    def request(self, key: str, seconds: float) -> LockRequest:
        """A new wish to lock a key.

        Args:
            key: the session key.
            seconds: how long the key stays locked should this process die.
        """
        return LockRequest(key, next(self._names), seconds)

    async def attempt(self, request: LockRequest) -> Locked | None:
        """Lock a key and read it in the same trip; `None` if another process has it, and the wish is in its queue."""
        asked = Asked.now()
        batch, place = self._locks.add(request.key, request)
        try:
            await batch.done
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                if (locked := batch.result(place)) is not None:
                    self._unlock(locked.lease)
                else:
                    self.abandon(request)
            raise
        locked = batch.result(place)
        if locked is not None:
            self._leases.add(locked.lease, request.seconds, asked)
        return locked

    async def wait(self, request: LockRequest, timeout: float) -> Locked:
        """Lock a key for which an attempt was in vain, when no other process has it any more.

        Args:
            request: the wish.
            timeout: seconds to wait at most.

        Raises:
            SessionLockTimeoutError: others held the key for longer than `timeout`.
        """
        try:
            async with asyncio.timeout(timeout):
                for attempt in count():
                    await self._storage.wait_unlocked(request, attempt)
                    if (locked := await self.attempt(request)) is not None:
                        return locked
        except BaseException as error:
            self.abandon(request)
            if not isinstance(error, TimeoutError):
                raise
        raise SessionLockTimeoutError(
            f"another process held it for longer than lock_timeout ({timeout:g} s left of it here); "
            "let long handlers call release_session(), or raise lock_timeout",
            key=request.key,
        )

    def abandon(self, request: LockRequest) -> None:
        """Leave a key's queue; should that fail, the storage notices that the wish is not repeated."""
        batch, place = self._abandons.add(request.key, request)
        batch.done.add_done_callback(lambda _: log_failure(batch, place))

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        await self._locks.drain()
        await self._abandons.drain()

    async def _abandon_many(self, requests: list[LockRequest]) -> Sequence[None]:
        await self._storage.abandon_many(requests)
        return [None] * len(requests)
