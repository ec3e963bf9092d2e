"""Locks of keys, asked for together with those of other keys, and waited for while other processes have them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from itertools import count

from chatsession._batches import Batches, log_failure
from chatsession._leases import Asked, Leases
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

    def __init__(self, storage: Storage, leases: Leases, unlock: Callable[[Lease], object]) -> None:
        self._storage = storage
        self._leases = leases
        self._unlock = unlock
        size, in_flight = storage.batch_size, storage.batches_in_flight
        self._locks: Batches[LockRequest, Locked | None] = Batches(storage.lock_many, size=size, in_flight=in_flight)
        self._abandons: Batches[LockRequest, None] = Batches(self._abandon_many, size=size, in_flight=in_flight)
        self._names = map(f"{secrets.token_hex(8)}-{{}}".format, count(1))

    async def lock(self, key: str, timeout: float, lease_seconds: float) -> Locked:
        """Lock a key and read it in the same trip, when no other process has it any more.

        Args:
            key: the session key.
            timeout: seconds to wait at most.
            lease_seconds: how long the key stays locked should this process die.

        Raises:
            SessionLockTimeoutError: others held the key for longer than `timeout`.
        """
        request = LockRequest(key, next(self._names), lease_seconds)
        locked = await self._try(request)
        return await self._wait(request, timeout) if locked is None else locked

    async def lock_now(self, key: str, lease_seconds: float) -> Locked | None:
        """Like `lock`, but gives up at once if another process holds the key."""
        request = LockRequest(key, next(self._names), lease_seconds)
        locked = await self._try(request)
        if locked is None:
            self._abandon(request)
        return locked

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        await self._locks.drain()
        await self._abandons.drain()

    async def _try(self, request: LockRequest) -> Locked | None:
        asked = Asked.now()
        batch, place = self._locks.add(request.key, request)
        try:
            await batch.done
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                if (locked := batch.result(place)) is not None:
                    self._unlock(locked.lease)
                else:
                    self._abandon(request)
            raise
        locked = batch.result(place)
        if locked is not None:
            self._leases.add(locked.lease, request.seconds, asked)
        return locked

    async def _wait(self, request: LockRequest, timeout: float) -> Locked:
        try:
            async with asyncio.timeout(timeout):
                for attempt in count():
                    await self._storage.wait_unlocked(request, attempt)
                    if (locked := await self._try(request)) is not None:
                        return locked
        except BaseException as error:
            self._abandon(request)
            if not isinstance(error, TimeoutError):
                raise
        raise SessionLockTimeoutError(
            f"another process held it for longer than lock_timeout ({timeout:g} s left of it here); "
            "let long handlers call release_session(), or raise lock_timeout",
            key=request.key,
        )

    async def _abandon_many(self, requests: list[LockRequest]) -> Sequence[None]:
        await self._storage.abandon_many(requests)
        return [None] * len(requests)

    def _abandon(self, request: LockRequest) -> None:
        """Leave a key's queue; should that fail, the storage notices that the wish is not repeated."""
        batch, place = self._abandons.add(request.key, request)
        batch.done.add_done_callback(lambda _: log_failure(batch, place))
