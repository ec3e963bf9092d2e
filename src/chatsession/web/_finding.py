"""Finds sessions by their keys and values, in an order."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from chatsession.conditions import Condition, Words
from chatsession.contents import data_in
from chatsession.maintenance import Scope, is_mark, pages, read
from chatsession.serialization.encryption import Keyring
from chatsession.storages import Record, Storage

SESSIONS_A_PAGE = 100
MOST_SORTED = 500
SECONDS_A_SEARCH = 1.5
"""After this time, a search returns what it has found and where to continue."""
SECONDS_A_SORT = 20.0
"""After this time, the sessions that were read so far are sorted."""

Order: TypeAlias = Literal["key", "largest", "expires"]


class Entry(Struct, frozen=True):
    """One line of a list of sessions."""

    key: str
    size: int
    expires_at: float | None


class Found(Struct):
    """A page of sessions."""

    exact: bool
    """A session has exactly the key that was asked for; it comes first."""
    sessions: list[Entry]
    now: float
    """Unix time by the storage's clock."""
    cursor: str | None = None
    """Where to continue; `None`: these were the last."""
    matching: int | None = None
    """If sorted: how many there are in all."""
    complete: bool = True
    """If sorted: all sessions were looked at."""


_ORDERS: dict[Order, Callable[[Entry], Any]] = {
    "key": lambda entry: entry.key,
    "largest": lambda entry: -entry.size,
    "expires": lambda entry: (entry.expires_at is None, entry.expires_at),
}


async def find(
    storage: Storage,
    start: str,
    *,
    cursor: str | None = None,
    order: Order | None = None,
    value: str = "",
    keyring: Keyring | None = None,
) -> Found:
    """Find sessions.

    Args:
        storage: it is only read.
        start: how their keys begin; empty: all.
        cursor: of the page before.
        order: sort all sessions; `None`: pages in the order of the storage.
        value: what is in them: `step=ask_address`, or words; empty: anything.
        keyring: reads encrypted sessions.
    """
    wanted = _wanted(value, keyring) if value else None
    exact = await _exact(storage, start) if start and cursor is None and not value else None
    if order is not None:
        found = await _sorted(storage, Scope(start), order, wanted)
        found.exact = exact is not None
        return found
    end = time.monotonic() + SECONDS_A_SEARCH
    listed: list[Entry] = [] if exact is None else [exact]
    async for entries, following in pages(storage, Scope(start), cursor, SESSIONS_A_PAGE, wanted):
        listed += [_entry(key, record) for key, record in entries if exact is None or key != start]
        cursor = following
        if time.monotonic() > end:
            break
    return Found(exact is not None, listed, storage.now(), cursor)


async def _sorted(storage: Storage, scope: Scope, order: Order, wanted: Callable[[str, Record], bool] | None) -> Found:
    end = time.monotonic() + SECONDS_A_SORT
    first: list[Entry] = []
    matching, complete = 0, True
    async for entries, following in pages(storage, scope, wanted=wanted):
        matching += len(entries)
        made = [_entry(key, record) for key, record in entries]
        first = heapq.nsmallest(MOST_SORTED, [*first, *made], key=_ORDERS[order])
        if following is not None and time.monotonic() > end:
            complete = False
            break
    return Found(False, first, storage.now(), matching=matching, complete=complete)


async def _exact(storage: Storage, key: str) -> Entry | None:
    record = None if is_mark(key) else await read(storage, key)
    return None if record is None else _entry(key, record)


def _entry(key: str, record: Record) -> Entry:
    return Entry(key, len(record.value), record.expires_at)


def _wanted(value: str, keyring: Keyring | None) -> Callable[[str, Record], bool]:
    try:
        condition = Condition.parse(value)
    except ValueError:
        condition = Words(value)
    return lambda key, record: condition.holds(data_in(key, record.value, keyring))
