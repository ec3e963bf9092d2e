"""Things that somebody waits for."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def _anything(_item: object) -> bool:
    return True


class Mailbox(Generic[T]):
    """Items in order of arrival, each taken once by whoever waits for one like it."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._arrived = asyncio.Event()

    def put(self, item: T) -> None:
        """Add an item and wake those who wait."""
        self._items.append(item)
        self._arrived.set()

    async def take(self, wanted: Callable[[T], bool] = _anything, *, timeout: float | None = None) -> T:
        """Take the oldest wanted item out, waiting for it if need be.

        Args:
            wanted: which items will do.
            timeout: seconds to wait; `None` waits for ever.

        Returns:
            The item. A cancelled wait takes nothing: no `await` lies between looking and taking.

        Raises:
            TimeoutError: none came in time.
        """
        async with asyncio.timeout(timeout):
            while True:
                for index, item in enumerate(self._items):
                    if wanted(item):
                        return self._items.pop(index)
                arrived = self._arrived = self._renewed()
                await arrived.wait()

    def _renewed(self) -> asyncio.Event:
        # Others may still wait for the event at hand: only one that has fired is replaced.
        return asyncio.Event() if self._arrived.is_set() else self._arrived
