"""Divides a batch into calls that have room for it, without those items whose keys cannot be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from chatsession.errors import SessionKeyError
from chatsession.storages.base import Change, Lease, LockRequest
from chatsession.storages.mongo._records import check_key

Item = TypeVar("Item")

_LARGEST_CALL = 8_000_000
"""Bytes of keys and values; a statement has 16 MiB and may name a key twice, a message has 48 MB."""


async def each(
    items: Sequence[Item], key_of: Callable[[Item], str], call: Callable[[Sequence[Item]], Awaitable[Sequence[Any]]]
) -> list[Any]:
    """Make a call for the items whose keys can be stored; the others get their error."""
    results: list[Any] = [None] * len(items)
    good: list[tuple[int, int]] = []
    for place, item in enumerate(items):
        try:
            good.append((place, check_key(key_of(item)) + len(getattr(item, "value", b""))))
        except SessionKeyError as error:
            results[place] = error
    for places in _portions(good):
        found = await call([items[place] for place in places])
        for place, result in zip(places, found, strict=True):
            results[place] = result
    return results


def key_of(item: Change | LockRequest | Lease) -> str:
    """The key of an item."""
    return item.key


def _portions(sizes: Sequence[tuple[int, int]]) -> Iterable[Sequence[int]]:
    """Split places into portions of about `_LARGEST_CALL` bytes, given pairs of place and size; nearly always one."""
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
