"""Calls that are tried again, for a bounded time, when the connection or the server fails."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import pymongo
from pymongo import ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from chatsession.storages._shared.clock import ServerClock
from chatsession.storages._shared.retries import retried
from chatsession.storages.mongo._connection import Client, Collection
from chatsession.storages.mongo._errors import as_storage_error, is_unacknowledged, passes
from chatsession.storages.mongo._records import Document, Layout, is_whole

Result = TypeVar("Result")

Call: TypeAlias = Callable[[bool], Awaitable[Result]]
"""The argument says whether an earlier try of the same call may have succeeded without an answer."""

_QUESTIONS = 3


async def measure(clock: ServerClock, client: Client) -> None:
    """Ask the primary for its time a few times, and use the fastest answer."""
    fastest = float("inf")
    for _ in range(_QUESTIONS):
        asked = time.monotonic()
        answer = await client.admin.command("hello")
        if time.monotonic() - asked < fastest:
            fastest = time.monotonic() - asked
            server_time: datetime = answer["localTime"]
            clock.set(server_time.replace(tzinfo=UTC).timestamp(), asked)


async def run(call: Call[Result], server: str, seconds: float) -> Result:
    """Make a call that may be repeated.

    A client of the user may also repeat writes by itself. The server recognizes those.

    Args:
        call: makes one try.
        server: the server's name in messages.
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
                return await _cancellable(call(again))
            except (PyMongoError, OSError) as error:
                if not passes(error) or asyncio.get_running_loop().time() + pause >= end:
                    raise as_storage_error(error, server) from None
            again = True
            retried("MongoDB")
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))
            pause = min(2 * pause, 1.0)


async def _cancellable(call: Awaitable[Result]) -> Result:
    """Await a call, and raise the cancellation that it swallowed.

    Until Python 3.12, `asyncio.wait_for`, which pymongo uses, swallows a cancellation when its own wait is over.
    """
    task = asyncio.current_task()
    assert task is not None
    earlier = task.cancelling()
    try:
        return await call
    finally:
        if task.cancelling() > earlier:
            raise asyncio.CancelledError


class Calls:
    """The calls of an open storage to its collection.

    Args:
        collection: holds the sessions.
        layout: the form of its documents.
        clock: estimates the server's time.
        server: the server's name in messages.
        seconds: how long all tries of a call may take together.
    """

    def __init__(self, collection: Collection, layout: Layout, clock: ServerClock, server: str, seconds: float) -> None:
        self.collection = collection
        self.layout = layout
        self.server = server
        self._clock = clock
        self._seconds = seconds
        self._linearizable = collection.with_options(read_concern=ReadConcern("linearizable"))
        self._confirmed: object = None
        """The election whose primary knows what a majority has. `None`: of no replica set."""

    def now(self) -> float:
        """The server's time, in Unix seconds."""
        return self._clock.now()

    async def run(self, call: Call[Result]) -> Result:
        """As the function `run`. Asks the server for its time once a minute."""
        if self._clock.is_due():
            client = self.collection.database.client
            await run(lambda _: measure(self._clock, client), self.server, self._seconds)
        return await run(call, self.server, self._seconds)

    async def read(self, call: Call[Result]) -> Result:
        """As `run`, for reads without a lock: they see every commit that a majority had confirmed before.

        A new primary has all such commits, but reads show them only once it knows that a majority has them. It learns
        this from a linearizable read, which waits for a majority, and is made once for each election.
        """
        while True:
            result = await self.run(call)
            election = self.collection.database.client.topology_description.max_election_id
            if election == self._confirmed or self.collection.write_concern.document["w"] != "majority":
                return result
            await self.run(lambda _: self._linearizable.find_one({"_id": None}, {"_id": True}))
            self._confirmed = election

    async def find(self, keys: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Document]:
        """Read some fields of the documents with these keys. A key without a document is missing in the result."""
        name = self.layout.key
        query = {name: keys[0]} if len(keys) == 1 else {name: {"$in": list(keys)}}
        found = self.collection.find(query, {name: True, **fields}, batch_size=len(keys) + 1)
        return {document[name]: document async for document in found}

    async def change(
        self, query: Mapping[str, Any], update: Any, fields: Mapping[str, Any], *, upsert: bool
    ) -> Document | None:
        """Make one update.

        Returns:
            The document after the update. `None` if no document meets the query, or if pymongo repeated the update, so
            that the answer lacks computed fields.
        """
        try:
            found = await self.collection.find_one_and_update(
                query, update, fields, upsert=upsert, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:  # there is such a key, but the rest of the query does not match
            return None
        return found if is_whole(found) else None

    async def write(self, updates: Sequence[UpdateOne | UpdateMany]) -> tuple[int, dict[int, object]]:
        """Make updates in any order.

        Returns:
            How many documents matched, and the error codes by the places of their updates. The number is 0 if there
            are errors.
        """
        try:
            done = await self.collection.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if is_unacknowledged(error):
                raise
            return 0, {each["index"]: each.get("code") for each in error.details["writeErrors"]}
        return done.matched_count + done.upserted_count, {}
