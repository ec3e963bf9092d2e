"""Checks of the server and the collection when the storage opens, and the indexes that it creates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatsession.errors import StorageError
from chatsession.storages.mongo._connection import Client, Collection
from chatsession.storages.mongo._layouts import Layout

_OLDEST = (6, 0)
_EXPIRY_INDEX = "chatsession_remove_at"
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
    indexes = (await collection.index_information()).values()
    has_expiry = any(index.get("expireAfterSeconds") == 0 and _is_on(index, "remove_at") for index in indexes)
    has_key = layout.key == "_id" or any(index.get("unique") and _is_on(index, layout.key) for index in indexes)
    if has_expiry and has_key:
        return
    if not create:
        raise StorageError(
            f"the collection {collection.full_name} lacks an index: one on remove_at with expireAfterSeconds 0"
            + ("" if layout.key == "_id" else f", and a unique one on {layout.key}")
            + "; let it be created once without create=false"
        )
    if not has_key:
        await collection.create_index(layout.key, unique=True)
    if not has_expiry:
        await collection.create_index("remove_at", name=_EXPIRY_INDEX, expireAfterSeconds=0)


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


def _is_on(index: Mapping[str, Any], field: str) -> bool:
    return [name for name, _ in index["key"]] == [field]
