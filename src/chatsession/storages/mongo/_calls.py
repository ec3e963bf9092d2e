"""Calls that are tried again when the connection or the server fails, within a bound."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import pymongo
from pymongo import ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from chatsession.storages._shared.clock import ServerClock
from chatsession.storages._shared.retries import retried
from chatsession.storages.mongo._clock import measure
from chatsession.storages.mongo._connection import Collection
from chatsession.storages.mongo._errors import as_storage_error, is_unacknowledged, passes
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._records import Document, is_whole

Result = TypeVar("Result")

Call: TypeAlias = Callable[[bool], Awaitable[Result]]
"""Takes whether an earlier try of the same call may have been carried out unnoticed."""


async def run(call: Call[Result], server: str, seconds: float) -> Result:
    """Make a call that can stand being made again.

    A client of the user may try again by itself; then the server recognizes a write that it has made.

    Args:
        call: makes one try.
        server: what messages call the server.
        seconds: how long all tries may take together.

    Raises:
        StorageUnavailableError: no try succeeded in time.
        StorageError: the server refused the call, and would again.
    """
    end = asyncio.get_running_loop().time() + seconds
    pause = 0.02
    again = False
    with pymongo.timeout(seconds):
        while True:
            try:
                return await call(again)
            except (PyMongoError, OSError) as error:
                if not passes(error) or asyncio.get_running_loop().time() + pause >= end:
                    raise as_storage_error(error, server) from None
            again = True
            retried("MongoDB")
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))
            pause = min(2 * pause, 1.0)


class Calls:
    """What an open storage asks of its collection.

    Args:
        collection: of the sessions.
        layout: the form of its documents.
        clock: the server's.
        server: what messages call the server.
        seconds: how long all tries of a call may take together.
    """

    def __init__(self, collection: Collection, layout: Layout, clock: ServerClock, server: str, seconds: float) -> None:
        self.collection = collection
        self.layout = layout
        self.server = server
        self._clock = clock
        self._seconds = seconds

    def now(self) -> float:
        """The server's time, in Unix seconds."""
        return self._clock.now()

    async def run(self, call: Call[Result]) -> Result:
        """As the function `run`; asks the server for its time now and then."""
        if self._clock.is_due():
            client = self.collection.database.client
            await run(lambda _: measure(self._clock, client), self.server, self._seconds)
        return await run(call, self.server, self._seconds)

    async def find(self, keys: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Document]:
        """Read some fields of those documents that there are, by their keys."""
        name = self.layout.key
        query = {name: keys[0]} if len(keys) == 1 else {name: {"$in": list(keys)}}
        found = self.collection.find(query, {name: True, **fields}, batch_size=len(keys) + 1)
        return {document[name]: document async for document in found}

    async def change(
        self, query: Mapping[str, Any], update: Any, fields: Mapping[str, Any], *, upsert: bool
    ) -> Document | None:
        """Make one update; returns the document as it is then.

        Returns:
            `None` if no document meets the query, or if pymongo made the update twice, so that the answer is not whole.
        """
        try:
            found = await self.collection.find_one_and_update(
                query, update, fields, upsert=upsert, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:  # the key is there, but the rest of the query is not met
            return None
        return found if is_whole(found) else None

    async def write(self, updates: Sequence[UpdateOne | UpdateMany]) -> tuple[int, dict[int, object]]:
        """Make updates in any order.

        Returns:
            How many documents were found, and the codes of errors by the places of their updates. After an error, the
            number is 0.
        """
        try:
            done = await self.collection.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if is_unacknowledged(error):
                raise
            return 0, {each["index"]: each.get("code") for each in error.details["writeErrors"]}
        return done.matched_count + done.upserted_count, {}
