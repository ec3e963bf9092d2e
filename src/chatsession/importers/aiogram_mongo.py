"""aiogram's FSM in MongoDB: what `MongoStorage` and `PyMongoStorage` keep; aiogram need not be installed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from chatsession.errors import shown
from chatsession.importers._aiogram_keys import DefaultKeys, KeyBuilder, ids_of
from chatsession.importers._entries import Entry
from chatsession.importers._mongo import Source, client_of

__all__ = ["entries"]

_PAGE = 200


async def entries(
    mongo: Source,
    *,
    key_builder: KeyBuilder | None = None,
    db_name: str = "aiogram_fsm",
    collection_name: str = "states_and_data",
) -> AsyncGenerator[Entry]:
    """Read the FSM data of all chats and users.

    Each entry has the ids that were in its key, the `data`, the `state` as text, and the `destiny`, as those of
    `chatsession.importers.aiogram_fsm` have.

    Args:
        mongo: the URL, or a client of pymongo's async interface, which stays open.
        key_builder: the one that was given to the storage, or `DefaultKeys`.
        db_name: as given to the storage.
        collection_name: as given to the storage.

    Raises:
        StorageUnavailableError: MongoDB does not answer.
    """
    keys = key_builder or DefaultKeys()
    async with client_of(mongo) as client:
        found = client[db_name][collection_name].find(projection={"state": 1, "data": 1}, batch_size=_PAGE)
        async for document in found:
            yield _entry(document, keys)


def _entry(document: dict[str, Any], keys: KeyBuilder) -> Entry:
    name: object = document["_id"]
    origin = shown(str(name))
    ids = ids_of(name, "", keys) if isinstance(name, str) else None
    if ids is None:
        return Entry(origin=origin, kind="fsm", problem="its key is not of the form that key_builder says")
    data: object = document.get("data") or {}
    state: object = document.get("state")
    if not isinstance(data, dict) or not isinstance(state, (str, type(None))):
        return Entry(origin=origin, kind="fsm", problem="it is not what aiogram's storage writes")
    return Entry(origin=origin, kind="fsm", data=data, state=state, **ids)
