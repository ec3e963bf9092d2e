"""Eras, above the revisions in every version and fencing token, so that these rise although revisions fall.

A server that is killed may lose its last messages, and gives their revisions to others. Nobody can tell whether that
happened while a connection was down. So each connection begins an era, by a compare-and-swap of an entry in the bucket,
before it changes anything. All that use the bucket read that entry with each batch, and write in the newest era.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatsession.errors import StorageError
from chatsession.storages.nats._bucket import Bucket, Done, Put
from chatsession.storages.nats._calls import message_id
from chatsession.storages.nats._records import Entry, Stored

ERA_NAME = "=era"
"""Of the entry in the bucket; no session has this name (see `_names`)."""


class Eras:
    """The newest era of a bucket, as far as it is known here.

    Args:
        bucket: the bucket.
        connection: numbers the connection that is used now.
    """

    def __init__(self, bucket: Bucket, connection: Callable[[], int]) -> None:
        self._bucket = bucket
        self._connection = connection
        self._begun_on: int | None = None
        self._beginning = asyncio.Lock()
        self.current = 0
        self.own = 0
        """The one that was begun here last."""
        self.newest_revision = 0
        """The highest revision that was given to a message from here."""

    async def keep(self) -> None:
        """Begin an era if the connection is a new one, or messages were lost on it. Raises `StorageError`."""
        if self._begun_on == self._connection():
            return
        async with self._beginning:
            while self._begun_on != (connection := self._connection()):
                await self._begin()
                self._begun_on = connection

    def adopt(self, entry: Stored | StorageError) -> None:
        """Go over to the era of the entry, if another connection has begun it."""
        if isinstance(entry, Stored):
            self.current = max(self.current, entry.entry.era)

    async def outlasted(self, own: int, newest: int, done: Done) -> bool:
        """Whether a change was made after the era ended in which it was written; then a new one has begun.

        Args:
            own: `own` when the change was sent.
            newest: `newest_revision` then.
            done: what became of it.

        Raises:
            StorageError: an era cannot be begun.
        """
        if done.duplicate:
            return False
        self.newest_revision = max(self.newest_revision, done.revision)
        given_before = done.revision <= newest
        if given_before and self.own == own:
            self._begun_on = None
        if given_before or done.moved:
            await self.keep()
        return self.own != own and (given_before or done.moved)

    async def _begin(self) -> None:
        while True:
            (found,) = await self._bucket.get_all([ERA_NAME])
            if isinstance(found, StorageError):
                raise found
            # By the clock too: the entry itself may be among what was lost.
            now = self._bucket.now()
            era = max(found.entry.era + 1, self.current + 1, int(now * 1000))
            (outcome,) = await self._bucket.put_all(
                [Put(ERA_NAME, str(era).encode(), Entry(era=era), found.revision, message_id(), now)]
            )
            if isinstance(outcome, StorageError):
                raise outcome
            if isinstance(outcome, Done):
                self.current = self.own = era
                return
