"""Locks keys in the storage: requests them in batches, and waits while other processes hold them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

from chatsession.coordination.batching import Batcher, log_failure
from chatsession.coordination.key_queue import KeyQueue
from chatsession.coordination.lanes import batcher_for
from chatsession.coordination.leases import Asked, LeaseRenewer
from chatsession.errors import SessionError, SessionLockTimeoutError
from chatsession.storages import Lease, Locked, LockRequest, Record, Storage

_BETWEEN_LOOKS = 0.1
"""The part of `lock_timeout` after which a waiter checks again whether something new is stored."""
_NOT_SEEN = object()


class Locks:
    """All locks of one storage, for those who have entered the queue of their key.

    Args:
        storage: where keys are locked.
        leases: renews granted leases.
        unlock: releases a lease.
        read: reads a key without locking it.
        queue: the waiters of this process.
    """

    __slots__ = ("_abandons", "_leases", "_locks", "_names", "_queue", "_read", "_storage", "_unlock")

    def __init__(
        self,
        storage: Storage,
        leases: LeaseRenewer,
        unlock: Callable[[Lease], object],
        read: Callable[[str], Awaitable[Record | None]],
        queue: KeyQueue[Any],
    ) -> None:
        self._storage = storage
        self._leases = leases
        self._unlock = unlock
        self._read = read
        self._queue = queue
        self._locks: Batcher[LockRequest, Locked | None] = batcher_for(storage, storage.lock_many)
        self._abandons: Batcher[LockRequest, None] = batcher_for(storage, self._abandon_many)
        self._names = map(f"{secrets.token_hex(8)}-{{}}".format, count(1))

    def request(self, key: str, seconds: float) -> LockRequest:
        """A new request to lock a key.

        Args:
            key: the session key.
            seconds: how long the key stays locked if this process dies.
        """
        return LockRequest(key, next(self._names), seconds)

    async def attempt(self, request: LockRequest) -> Locked | None:
        """Lock a key and read it in the same trip; `None` if another process has it, and the request is queued."""
        asked = Asked.now()
        batch = self._locks.add(request.key, request)
        try:
            await batch.done
            locked = batch.result(request.key)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                if (locked := batch.result(request.key)) is not None:
                    self._unlock(locked.lease)
                    raise
            self.abandon(request)
            raise
        except Exception:  # the answer may have been lost, and the key may be locked
            self.abandon(request)
            raise
        if locked is not None:
            self._leases.add(locked.lease, request.seconds, asked)
        return locked

    async def wait(self, request: LockRequest, timeout: float | None) -> Locked:
        """Lock a key after an attempt that failed, once no other process holds it.

        Args:
            request: the request.
            timeout: seconds for which the key may make no progress; `None`: for ever.

        Raises:
            SessionLockTimeoutError: others held the key for longer than `timeout`, and stored nothing.
        """
        try:
            async with asyncio.timeout(None) as limit:
                watch = asyncio.create_task(self._watch(request.key, timeout, limit))
                try:
                    return await self._until_locked(request)
                finally:
                    watch.cancel()
        except BaseException as error:
            self.abandon(request)
            if not isinstance(error, TimeoutError) or isinstance(error, SessionError):
                raise
        raise SessionLockTimeoutError(
            f"another process held it for longer than lock_timeout ({timeout:g} s); "
            "let long handlers call release_session(), or raise lock_timeout",
            key=request.key,
        )

    def abandon(self, request: LockRequest) -> None:
        """Leave a key's queue, and release the lock if it was granted and the answer was lost."""
        batch = self._abandons.add(request.key, request)
        batch.done.add_done_callback(lambda _: log_failure(batch, request.key))

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        await self._locks.drain()
        await self._abandons.drain()

    async def _until_locked(self, request: LockRequest) -> Locked:
        attempt = 0
        while True:
            await self._storage.wait_unlocked(request, attempt)
            if (locked := await self.attempt(request)) is not None:
                return locked
            attempt += 1

    async def _watch(self, key: str, timeout: float | None, limit: asyncio.Timeout) -> None:
        """End the waits for a key under which nothing new is stored for `timeout` seconds."""
        if timeout is None:
            return
        loop = asyncio.get_running_loop()
        since = loop.time()
        seen: object = _NOT_SEEN
        left = timeout
        self._queue.watched.add(key)
        try:
            while left > 0:
                await asyncio.sleep(min(left, _BETWEEN_LOOKS * timeout))
                version = await self._version(key)
                progressed = version != seen and seen is not _NOT_SEEN
                seen = version
                now = loop.time()
                if progressed:
                    since = now
                self._queue.looked(key, progressed=progressed)
                left = since + timeout - now
            limit.reschedule(loop.time())
        finally:
            self._queue.watched.discard(key)

    async def _version(self, key: str) -> object:
        try:
            record = await self._read(key)
        except SessionError as error:
            return type(error)
        return None if record is None else record.version

    async def _abandon_many(self, requests: list[LockRequest]) -> Sequence[None]:
        await self._storage.abandon_many(requests)
        return [None] * len(requests)
