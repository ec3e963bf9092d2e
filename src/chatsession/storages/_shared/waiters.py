"""Those in this process that wait for a key which another process holds, and how a word from there wakes them."""

from __future__ import annotations

import asyncio
from hashlib import blake2b

WAKE_TOKEN_LENGTH = 16
_MOST_EARLY = 1000


def wake_token(waiter: str) -> str:
    """A waiter's name as it is sent to wake it: short, plain, and all of one length."""
    return blake2b(waiter.encode("utf-8", "surrogatepass"), digest_size=WAKE_TOKEN_LENGTH // 2).hexdigest()


class WaiterRegistry:
    """Wakes waiters, also those that are woken before they begin to wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: dict[str, None] = {}

    def wake(self, sign: str) -> None:
        """Wake the waiter with this sign, or whoever will wait under it next."""
        waiting = self._waiting.get(sign)
        if waiting is None:
            self._early[sign] = None
            if len(self._early) > _MOST_EARLY:
                del self._early[next(iter(self._early))]
        elif not waiting.done():
            waiting.set_result(None)

    async def wait(self, waiter: str, seconds: float) -> None:
        """Return when woken, or after some seconds."""
        sign = wake_token(waiter)
        if sign in self._early:
            del self._early[sign]
            return
        self._waiting[sign] = woken = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            del self._waiting[sign]
