"""Enumerates keys in the order of the index, page by page."""

from __future__ import annotations

from typing import cast

from chatsession.storages._shared.prefixes import end_of_prefix, is_text
from chatsession.storages.base import Page, Record
from chatsession.storages.postgres._database import Database
from chatsession.storages.postgres._keys import AFTER_ALL, AFTER_MARK, MARK
from chatsession.storages.postgres._records import record
from chatsession.storages.postgres._schema import Schema


async def page(
    database: Database, schema: Schema, prefix: str, cursor: str | None, limit: int, *, values: bool
) -> Page:
    """Read one page of a table; without `values`, all values are empty.

    First come the keys that are stored verbatim, where a prefix is one range of the index; then the few that are
    stored as digests, which are filtered one by one. The cursor is the stored key at which the next page begins.
    """
    if not is_text(prefix):
        return Page([], None)
    query = schema.query("scan" if values else "scan_keys")
    entries: list[tuple[str, Record]] = []
    start = max(prefix, AFTER_MARK) if cursor is None else cursor
    if "\0" in prefix:  # no key that is stored verbatim contains one
        start = min(start, MARK) if cursor is None else cursor
    if start >= AFTER_MARK:
        start = await _add(database, query, entries, start, end_of_prefix(prefix), limit)
        if start is not None:
            return Page(entries, start)
        start = MARK
    missing = limit - len(entries)
    start = await _add(database, query, entries, start, AFTER_MARK, max(missing, 1))
    return Page([entry for entry in entries if entry[0].startswith(prefix)], start)


async def _add(
    database: Database, query: str, entries: list[tuple[str, Record]], start: str, end: str | None, limit: int
) -> str | None:
    """Add the sessions of a range; returns where to continue, `None` after the last."""
    rows = await database.fetch(query, limit, start, AFTER_ALL if end is None else end)
    for key, whole, *columns in rows:
        found = record(*columns)
        if found is not None:
            entries.append((cast("str", key) if whole is None else cast("bytes", whole).decode(), found))
    if len(rows) < limit:
        return None
    # No stored key contains a NUL, so no key sorts between this one and this one followed by U+0001.
    return cast("str", rows[-1][0]) + "\x01"
