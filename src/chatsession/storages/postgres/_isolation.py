"""One row that another transaction holds fails its own key, and not the batch that the key travels in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from chatsession.errors import StorageError
from chatsession.storages.postgres._errors import RowHeldError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def isolated(
    call: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
    items: Sequence[Item],
    failed: Callable[[Item, StorageError], Result],
) -> Sequence[Result]:
    """Make a call for a batch, or for each of its items alone if a row in it is held for long.

    Args:
        call: all or nothing; raises `RowHeldError` where it gave up waiting.
        items: the batch.
        failed: the result of an item that could not be dealt with even alone.
    """
    try:
        return await call(items)
    except RowHeldError as error:
        if len(items) == 1:
            return [failed(items[0], error)]

    async def alone(item: Item) -> Result:
        try:
            (result,) = await call([item])
        except StorageError as error:
            return failed(item, error)
        return result

    return await asyncio.gather(*map(alone, items))
