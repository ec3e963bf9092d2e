"""Splits a batch into calls that are small enough, and keeps out keys that cannot be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from chatsession.errors import SessionKeyError
from chatsession.storages.base import Change, Lease, LockRequest
from chatsession.storages.mongo._records import check_key

Item = TypeVar("Item", str, Change, LockRequest, Lease)

_LARGEST_CALL = 8_000_000
"""Bytes of keys and values; a statement has 16 MiB and may name a key twice, a message has 48 MB."""


async def each(items: Sequence[Item], call: Callable[[Sequence[Item]], Awaitable[Sequence[Any]]]) -> list[Any]:
    """Make a call for the items whose keys can be stored; the result of any other item is its error.

    Args:
        items: what the call takes.
        call: returns a result for each item that it is given.
    """
    results: list[Any] = [None] * len(items)
    good: list[tuple[int, int]] = []
    for place, item in enumerate(items):
        try:
            size = check_key(item if isinstance(item, str) else item.key)
            good.append((place, size + (len(item.value) if isinstance(item, Change) else 0)))
        except SessionKeyError as error:
            results[place] = error
    for places in _portions(good):
        found = await call([items[place] for place in places])
        for place, result in zip(places, found, strict=True):
            results[place] = result
    return results


def _portions(sizes: Sequence[tuple[int, int]]) -> Iterable[Sequence[int]]:
    """Split places into portions of about `_LARGEST_CALL` bytes, given pairs of place and size; usually one portion."""
    portion: list[int] = []
    total = 0
    for place, size in sizes:
        if portion and total + size > _LARGEST_CALL:
            yield portion
            portion, total = [], 0
        portion.append(place)
        total += size
    if portion:
        yield portion
