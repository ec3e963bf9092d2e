"""Reads sessions without locks: by their keys, or page by page in the order of the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from chatsession.errors import StorageError
from chatsession.storages._shared.prefixes import end_of_prefix, is_text
from chatsession.storages.base import Page, Record
from chatsession.storages.inspection import Fact
from chatsession.storages.mongo._calls import Calls
from chatsession.storages.mongo._records import (
    STORED_FIELDS,
    Document,
    Layout,
    record_in,
    record_of,
    value_of,
)
from chatsession.storages.mongo._statements import STORED, Expression


async def read(calls: Calls, keys: Sequence[str]) -> Sequence[Record | StorageError | None]:
    """`Storage.read_many`."""
    documents = await calls.read(lambda _: calls.find(keys, STORED_FIELDS))
    return [record_in(key, documents.get(key)) for key in keys]


async def page(calls: Calls, prefix: str, cursor: str | None, limit: int) -> Page:
    """`Storage.scan`."""
    documents, following = await _documents(calls, prefix, cursor, limit, STORED_FIELDS)
    entries: list[tuple[str, Record]] = []
    for document in documents:
        key = document[calls.layout.key]
        with suppress(StorageError):  # `unreadable` lists them
            entries.append((key, record_of(key, document)))
    return Page(entries, following)


async def keys(calls: Calls, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
    """`Storage.scan_keys`."""
    documents, following = await _documents(calls, prefix, cursor, limit, {})
    return [document[calls.layout.key] for document in documents], following


async def _documents(
    calls: Calls, prefix: str, cursor: str | None, limit: int, fields: Mapping[str, object]
) -> tuple[Sequence[Document], str | None]:
    """One page of the documents with sessions. The cursor is the last key of the previous page."""
    if cursor is not None and not is_text(cursor):
        raise StorageError("this is not a cursor of an enumeration in MongoDB")
    name = calls.layout.key
    conditions: list[Expression] = [with_prefix(calls.layout, prefix), STORED]
    if cursor is not None:
        conditions.append({name: {"$gt": cursor}})
    query, shown = {"$and": conditions}, {name: True, **fields}
    documents = await calls.read(lambda _: calls.collection.find(query, shown).sort(name).limit(limit).to_list())
    return documents, documents[-1][name] if len(documents) == limit else None


async def unreadable(calls: Calls, limit: int) -> Sequence[Fact]:
    """`ListsUnreadable.list_unreadable`."""
    name = calls.layout.key

    async def call(_again: bool) -> list[Fact]:
        facts: list[Fact] = []
        async for document in calls.collection.find({"value": {"$exists": True}}, {name: True, "value": True}):
            try:
                value_of(document[name], document["value"])
            except StorageError as error:
                facts.append(Fact(document[name], str(error)))
                if len(facts) == limit:
                    break
        return facts

    return await calls.run(call)


def with_prefix(layout: Layout, prefix: str) -> Expression:
    """Filters the keys that start with a prefix, which are a range of the index."""
    if not is_text(prefix):
        return {layout.key: {"$in": []}}
    bounds = {"$gte": prefix}
    end = end_of_prefix(prefix)
    if end is not None:
        bounds["$lt"] = end
    return {layout.key: bounds}
