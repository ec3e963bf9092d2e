"""Checks of the server and the collection when the storage opens, and the indexes that it creates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import IndexModel

from chatsession.errors import StorageError
from chatsession.storages.mongo._connection import Client, Collection
from chatsession.storages.mongo._layouts import Layout

_OLDEST = (6, 0)
_SECONDS_KEPT = 3600
"""So long, a document outlives its session: a lock on it may, and tokens must not begin anew."""
_LOOKED_AT = 20


async def check_server(client: Client) -> Mapping[str, Any]:
    """Return what the server says of itself; raises `StorageError` if sessions cannot be stored there."""
    build = await client.admin.command("buildInfo")
    version = tuple(build["versionArray"][:2])
    if version < _OLDEST:
        raise StorageError(
            f"this is MongoDB {build['version']}, but sessions need {_OLDEST[0]}.{_OLDEST[1]} or newer; upgrade the "
            "server"
        )
    return await client.admin.command("hello")


async def prepare(collection: Collection, layout: Layout, *, create: bool) -> None:
    """Check the collection, and create its indexes. Raises `StorageError` if it is no collection for sessions."""
    await _check_kind(collection)
    await _check_documents(collection, layout)
    known = await collection.index_information()
    missing = [index for index in _indexes(layout) if index.document["name"] not in known]
    if missing and not create:
        names = ", ".join(index.document["name"] for index in missing)
        raise StorageError(
            f"the collection {collection.full_name} lacks the index {names}; open it once without create=false"
        )
    if missing:
        await collection.create_indexes(missing)


def _indexes(layout: Layout) -> list[IndexModel]:
    """By which keys are unique, and by which MongoDB deletes what nobody needs any more."""
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


async def _check_kind(collection: Collection) -> None:
    async for found in await collection.database.list_collections(filter={"name": collection.name}):
        kind = "a capped collection" if found.get("options", {}).get("capped") else f"a {found['type']}"
        if kind != "a collection":
            raise StorageError(
                f"{collection.full_name} is {kind}, where sessions cannot be stored; name another collection"
            )


async def _check_documents(collection: Collection, layout: Layout) -> None:
    async for document in collection.find({}, {"_id": True, layout.key: True, "key": True}, limit=_LOOKED_AT):
        if isinstance(document.get(layout.key), str):
            continue
        hint = "add layout=grammy" if isinstance(document.get("key"), str) else "name another collection"
        raise StorageError(f"the collection {collection.full_name} has documents that are no sessions; {hint}")
