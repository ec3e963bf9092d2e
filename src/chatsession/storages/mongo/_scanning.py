"""Enumerates keys in the order of the index, page by page."""

from __future__ import annotations

from typing import Any

from chatsession.storages.base import Page, Record
from chatsession.storages.mongo._connection import Collection
from chatsession.storages.mongo._documents import record_of, seconds_of
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._statements import STORED, Expression


async def page(
    collection: Collection, layout: Layout, prefix: str, cursor: str | None, limit: int, *, values: bool
) -> Page:
    """Read one page; without `values`, all values are empty. The cursor is the last key of the page before."""
    conditions: list[Expression] = [with_prefix(layout, prefix), STORED]
    if cursor is not None:
        conditions.append({layout.key: {"$gt": cursor}})
    fields: dict[str, Any] = {layout.key: True, "version": True, "expires_at": True}
    if values:
        fields["value"] = True
    found = collection.find({"$and": conditions}, fields).sort(layout.key).limit(limit)
    entries: list[tuple[str, Record]] = []
    async for document in found:
        key = document[layout.key]
        if values:
            entries.append((key, record_of(key, document)))
        else:
            entries.append((key, Record(b"", document.get("version"), seconds_of(document.get("expires_at")))))
    return Page(entries, entries[-1][0] if len(entries) == limit else None)


def with_prefix(layout: Layout, prefix: str) -> Expression:
    """Filters the keys that start with a prefix, which are a range of the index."""
    bounds = {"$gte": prefix}
    end = _end_of(prefix)
    if end is not None:
        bounds["$lt"] = end
    return {layout.key: bounds}


def _end_of(prefix: str) -> str | None:
    """The first string, by code points, after all that start with `prefix`; `None`: there is no such string."""
    for length in range(len(prefix), 0, -1):
        last = ord(prefix[length - 1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1  # surrogates are no characters
            return prefix[: length - 1] + chr(following)
    return None
