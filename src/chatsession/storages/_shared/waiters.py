"""The waiters of this process, for keys that other processes hold, and how a message from there wakes them."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import NamedTuple

from chatsession.errors import SessionError
from chatsession.storages.base import Locked, LockRequest

WAKE_TOKEN_LENGTH = 16
_MOST_EARLY = 1000


def wake_token(waiter: str) -> str:
    """The name of a waiter as it is sent to wake it: short, plain, and always of the same length."""
    return blake2b(waiter.encode("utf-8", "surrogatepass"), digest_size=WAKE_TOKEN_LENGTH // 2).hexdigest()


class Waiting(NamedTuple):
    """A request was not granted: it waits until it is woken, or the holder's lease ends."""

    until: float
    """By the clock of the leases."""


class WaiterRegistry:
    """Wakes waiters, also those that are woken before they begin to wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: dict[str, None] = {}
        self._free_at: dict[str, float] = {}
        """Waiter -> when the lease ends that it waits for, by the loop's clock."""

    def wake(self, token: str) -> None:
        """Wake the waiter with this token, or the one that will wait under it next."""
        waiting = self._waiting.get(token)
        if waiting is None:
            self._early[token] = None
            if len(self._early) > _MOST_EARLY:
                del self._early[next(iter(self._early))]
        elif not waiting.done():
            waiting.set_result(None)

    def answer(
        self, request: LockRequest, result: Locked | Waiting | SessionError, now: float
    ) -> Locked | SessionError | None:
        """The answer of `Storage.lock_many` to a request, of which it is noted whether it waits."""
        if isinstance(result, Waiting):
            self.must_wait(request.waiter, result.until - now)
            return None
        self.stop_waiting(request.waiter)
        return result

    def must_wait(self, waiter: str, seconds: float) -> None:
        """Note when the lease for which a waiter waits ends: a holder that dies wakes no waiter."""
        self._free_at[waiter] = asyncio.get_running_loop().time() + seconds

    def stop_waiting(self, waiter: str) -> None:
        """Forget a waiter that got its lock, or gave up."""
        self._free_at.pop(waiter, None)

    async def wait(self, waiter: str, seconds: float) -> None:
        """Return when woken, when the lease ends that it waits for, or after some seconds."""
        token, loop = wake_token(waiter), asyncio.get_running_loop()
        until_free = self._free_at.pop(waiter, 0.0) - loop.time()
        if token in self._early:
            del self._early[token]
            return
        self._waiting[token] = woken = loop.create_future()
        try:
            await asyncio.wait([woken], timeout=min(until_free, seconds) if until_free > 0 else seconds)
        finally:
            del self._waiting[token]
