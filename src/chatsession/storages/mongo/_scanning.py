"""Enumerates keys in the order of the index, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from chatsession.errors import StorageError
from chatsession.storages._shared.prefixes import end_of_prefix
from chatsession.storages.base import Page, Record
from chatsession.storages.inspection import Fact
from chatsession.storages.mongo._connection import Collection
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._records import record_of, seconds_of, value_of
from chatsession.storages.mongo._statements import STORED, Expression


async def page(
    collection: Collection, layout: Layout, prefix: str, cursor: str | None, limit: int, *, values: bool
) -> Page:
    """Read one page; without `values`, all values are empty. The cursor is the last key of the page before."""
    if not _is_text(prefix):
        return Page([], None)  # no stored key starts with it
    if cursor is not None and not _is_text(cursor):
        raise StorageError("this is no cursor of an enumeration in MongoDB")
    conditions: list[Expression] = [with_prefix(layout, prefix), STORED]
    if cursor is not None:
        conditions.append({layout.key: {"$gt": cursor}})
    fields: dict[str, Any] = {layout.key: True, "version": True, "expires_at": True}
    if values:
        fields["value"] = True
    entries: list[tuple[str, Record]] = []
    last, found = None, 0
    async for document in collection.find({"$and": conditions}, fields).sort(layout.key).limit(limit):
        last = document[layout.key]
        found += 1
        if not values:
            entries.append((last, Record(b"", document.get("version"), seconds_of(document.get("expires_at")))))
            continue
        with suppress(StorageError):  # `unreadable` tells
            entries.append((last, record_of(last, document)))
    return Page(entries, last if found == limit else None)


async def unreadable(collection: Collection, layout: Layout, limit: int) -> Sequence[Fact]:
    """`ListsUnreadable.list_unreadable`."""
    facts: list[Fact] = []
    async for document in collection.find({"value": {"$exists": True}}, {layout.key: True, "value": True}):
        try:
            value_of(document[layout.key], document["value"])
        except StorageError as error:
            facts.append(Fact(document[layout.key], str(error)))
            if len(facts) == limit:
                break
    return facts


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_prefix(layout: Layout, prefix: str) -> Expression:
    """Filters the keys that start with a prefix, which are a range of the index."""
    bounds = {"$gte": prefix}
    end = end_of_prefix(prefix)
    if end is not None:
        bounds["$lt"] = end
    return {layout.key: bounds}
