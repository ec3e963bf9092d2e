"""Enumerating keys in the order of the index, page by page."""

from __future__ import annotations

from typing import cast

from chatsession.storages.base import Page, Record
from chatsession.storages.postgres._database import Database
from chatsession.storages.postgres._keys import AFTER_ALL, AFTER_MARK, MARK, end_of_prefix
from chatsession.storages.postgres._records import record
from chatsession.storages.postgres._schema import Schema


class Scanner:
    """Reads pages of a table.

    First come the keys that are stored as they are, of which a prefix is one stretch of the index; then the few that
    are not, which must be looked at one by one. The cursor is the stored key with which to go on.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema

    async def page(self, prefix: str, cursor: str | None, limit: int, *, values: bool) -> Page:
        """One page; without `values`, all of them are empty."""
        query = self._schema.query("scan" if values else "scan_keys")
        entries: list[tuple[str, Record]] = []
        start = max(prefix, AFTER_MARK) if cursor is None else cursor
        if "\0" in prefix:  # no key that is stored as it is contains one
            start = min(start, MARK) if cursor is None else cursor
        if start >= AFTER_MARK:
            start = await self._add(entries, start, end_of_prefix(prefix), limit, query)
            if start is not None:
                return Page(entries, start)
            start = MARK
        missing = limit - len(entries)
        start = await self._add(entries, start, AFTER_MARK, max(missing, 1), query)
        return Page([entry for entry in entries if entry[0].startswith(prefix)], start)

    async def _add(
        self, entries: list[tuple[str, Record]], start: str, end: str | None, limit: int, query: str
    ) -> str | None:
        """Add what lies between; returns where to go on, `None` after the last."""
        rows = await self._database.fetch(query, limit, start, AFTER_ALL if end is None else end)
        for key, whole, *columns in rows:
            found = record(*columns)
            if found is not None:
                entries.append((cast("str", key) if whole is None else cast("bytes", whole).decode(), found))
        if len(rows) < limit:
            return None
        # No stored key contains a NUL, so that none lies between a key and the same with U+0001 at its end.
        return cast("str", rows[-1][0]) + "\x01"
