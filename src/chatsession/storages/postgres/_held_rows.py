"""A row that another transaction holds fails its own key; other keys wait for it once at most."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages.base import Change, Lease, LockRequest
from chatsession.storages.postgres._errors import ROW_HELD, RowHeldError

Item = TypeVar("Item", Change, Lease, LockRequest)
Result = TypeVar("Result")

_LONGEST_WAIT = 1.5
"""Seconds for which a call waits for a row, as the functions in SQL do (`lock_timeout`)."""
_BETWEEN_LOOKS = 0.1
_MOST_KNOWN = 1000


class HeldRows:
    """Remembers which keys have a row that is held, until a later call finds it free.

    Calls for these keys look whether the rows are free instead of waiting for them on a connection, so that any number
    of held rows leaves connections for the other keys, and nothing waits on the server.

    Args:
        find: which of some keys have a held row, in the table of the leases or, if told so, of the sessions too.
    """

    def __init__(self, find: Callable[[Collection[str], bool], Awaitable[set[str]]]) -> None:
        self._find = find
        self._known: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._known

    async def isolated(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Mapping[str, Result]]],
        items: Sequence[Item],
        failed: Callable[[Item, StorageError], Result],
        *,
        sessions: bool = False,
    ) -> Sequence[Result]:
        """Make a call for a batch, and let keys with held rows fail alone.

        Args:
            call: all or nothing; returns the results by key, and raises `RowHeldError` where it gave up waiting.
            items: the batch.
            failed: the result of an item that could not be dealt with.
            sessions: the call locks rows of the sessions too.
        """
        held = await self._wait_until_free(items, sessions) if self._known else set[str]()
        free = [item for item in items if item.key not in held] if held else items
        try:
            results: Mapping[str, Result] = await call(free) if free else {}
        except RowHeldError:
            held |= await self._find([item.key for item in free], sessions)
            free = [item for item in free if item.key not in held]
            alone = await asyncio.gather(*(self._alone(call, item, failed) for item in free))
            results = {item.key: result for item, result in zip(free, alone, strict=True)}
        if not held:
            return [results[item.key] for item in items]
        self._remember(held)
        error = StorageUnavailableError(ROW_HELD)
        return [failed(item, error) if item.key in held else results[item.key] for item in items]

    async def _alone(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Mapping[str, Result]]],
        item: Item,
        failed: Callable[[Item, StorageError], Result],
    ) -> Result:
        """Make a call for one item, as where its row is being inserted by another transaction and cannot be seen."""
        try:
            return (await call([item]))[item.key]
        except RowHeldError:
            self._remember([item.key])
            return failed(item, StorageUnavailableError(ROW_HELD))
        except StorageError as error:
            return failed(item, error)

    async def _wait_until_free(self, items: Sequence[Item], sessions: bool) -> set[str]:
        """Wait for rows that were held before, and return the keys of those that still are."""
        keys = [item.key for item in items if item.key in self._known]
        if not keys:
            return set()
        end = asyncio.get_running_loop().time() + _LONGEST_WAIT
        while held := await self._find(keys, sessions):
            if asyncio.get_running_loop().time() > end:
                break
            await asyncio.sleep(_BETWEEN_LOOKS)
        for key in keys:
            if key not in held:
                self._known.pop(key, None)
        return held

    def _remember(self, keys: Collection[str]) -> None:
        self._known.update(dict.fromkeys(keys))
        while len(self._known) > _MOST_KNOWN:  # chats that never came back
            del self._known[next(iter(self._known))]


def of_key(item: Change | LockRequest, error: StorageError) -> StorageError:
    """The same error, of one item of a batch."""
    return type(error)(str(error), key=item.key)
