"""Checks the server and the collection when the storage opens, and creates indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import IndexModel

from chatsession.errors import StorageError
from chatsession.storages.mongo._connection import Client, Collection
from chatsession.storages.mongo._records import Layout

_OLDEST = (6, 0)
_SECONDS_KEPT = 3600
"""How long a document outlives its session: a lock may outlive it too, and tokens must not start again."""
_LOOKED_AT = 20
_OPTIONS = ("unique", "expireAfterSeconds", "partialFilterExpression", "sparse")


async def check_server(client: Client) -> Mapping[str, Any]:
    """Return the server's answer to `hello`. Raises `StorageError` if the server is too old."""
    build = await client.admin.command("buildInfo")
    version = tuple(build["versionArray"][:2])
    if version < _OLDEST:
        raise StorageError(
            f"this is MongoDB {build['version']}, but sessions need {_OLDEST[0]}.{_OLDEST[1]} or newer; upgrade the "
            "server"
        )
    return await client.admin.command("hello")


async def prepare(collection: Collection, layout: Layout, *, create: bool) -> None:
    """Check the collection, and create its indexes. Raises `StorageError` if sessions cannot be stored in it."""
    await _check_kind(collection)
    await _check_documents(collection, layout)
    known = await collection.index_information()
    missing = [index for index in _indexes(layout) if not any(_serves(each, index) for each in known.values())]
    for index in missing:
        _check_free(index, known, collection)
    if missing and not create:
        names = ", ".join(index.document["name"] for index in missing)
        raise StorageError(
            f"the collection {collection.full_name} lacks the index {names}; open it once without create=false"
        )
    if missing:
        await collection.create_indexes(missing)


def _indexes(layout: Layout) -> list[IndexModel]:
    """The indexes that keep keys unique, and by which MongoDB deletes what is no longer needed."""
    indexes = [
        IndexModel("expires_at", name="chatsession_expires_at", expireAfterSeconds=_SECONDS_KEPT),
        IndexModel(
            "touched_at",
            name="chatsession_touched_at",
            expireAfterSeconds=_SECONDS_KEPT,
            partialFilterExpression={"idle": True},
        ),
    ]
    if layout.key != "_id":
        indexes.append(IndexModel(layout.key, name="chatsession_key", unique=True))
    return indexes


def _serves(known: Mapping[str, Any], index: IndexModel) -> bool:
    """Whether an existing index, whatever its name, does what a needed one does."""
    return _fields(known) == _fields(index.document) and all(
        known.get(option) == index.document.get(option) for option in _OPTIONS
    )


def _check_free(index: IndexModel, known: Mapping[str, Mapping[str, Any]], collection: Collection) -> None:
    """Raise `StorageError` if an existing index conflicts with a needed one."""
    for name, each in known.items():
        if name == index.document["name"] or (_fields(each) == _fields(index.document) and _is_alike(each, index)):
            raise StorageError(
                f"the index {name} of the collection {collection.full_name} is not as sessions need it; drop it, and "
                "open the storage again"
            )


def _is_alike(known: Mapping[str, Any], index: IndexModel) -> bool:
    """Whether MongoDB considers two indexes of the same fields as one index with other options."""
    return known.get("unique") == index.document.get("unique") and (
        known.get("partialFilterExpression") == index.document.get("partialFilterExpression")
    )


def _fields(index: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(dict(index["key"]).items())


async def _check_kind(collection: Collection) -> None:
    async for found in await collection.database.list_collections(filter={"name": collection.name}):
        options = found.get("options", {})
        kind = "a capped collection" if options.get("capped") else f"a {found['type']}"
        if "collation" in options:
            kind = "a collection with a collation, by which two keys may be the same"
        if kind != "a collection":
            raise StorageError(
                f"{collection.full_name} is {kind}, where sessions cannot be stored; name another collection"
            )


async def _check_documents(collection: Collection, layout: Layout) -> None:
    fields = {"_id": True, layout.key: True, "key": True, "token": True, "kind": {"$type": "$value"}}
    async for document in collection.find({}, fields, limit=_LOOKED_AT):
        if isinstance(document.get(layout.key), str) and ("token" in document or document["kind"] != "missing"):
            continue
        hint = "add layout=grammy" if isinstance(document.get("key"), str) else "name another collection"
        raise StorageError(f"the collection {collection.full_name} has documents that are not sessions; {hint}")
