"""Eras: the upper part of versions and fencing tokens, so that these grow even if revisions do not.

A server that is killed may lose its last messages, and give their revisions to later ones. A client cannot tell whether
that happened while its connection was down. So each connection begins an era before it changes anything, by a
compare-and-swap of an entry in the bucket. All clients read that entry with each batch, and write in the newest era.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatsession.errors import StorageError
from chatsession.storages.nats._bucket import Bucket, Done, Put
from chatsession.storages.nats._calls import message_id
from chatsession.storages.nats._records import Entry, Stored

ERA_NAME = "=era"
"""The name of the entry. No session has it (see `_names`)."""


class Eras:
    """The newest known era of a bucket.

    Args:
        bucket: the bucket.
        connection: gives the number of the present connection.
    """

    def __init__(self, bucket: Bucket, connection: Callable[[], int]) -> None:
        self._bucket = bucket
        self._connection = connection
        self._begun_on: int | None = None
        self._beginning = asyncio.Lock()
        self.current = 0
        self.own = 0
        """The era that was last begun here."""
        self.newest_revision = 0
        """The highest revision of a message that was sent from here."""

    async def keep(self) -> None:
        """Begin an era if the connection is new, or messages were lost on it. Raises `StorageError`."""
        if self._begun_on == self._connection():
            return
        async with self._beginning:
            while self._begun_on != (connection := self._connection()):
                await self._begin()
                self._begun_on = connection

    def adopt(self, entry: Stored | StorageError) -> None:
        """Adopt the era of the entry, if another connection has begun it."""
        if isinstance(entry, Stored):
            self.current = max(self.current, entry.entry.era)

    async def outlasted(self, own: int, newest: int, done: Done) -> bool:
        """Whether the era in which a change was written ended before it was stored. Then a new one has begun.

        Args:
            own: `own` when the change was sent.
            newest: `newest_revision` then.
            done: its outcome.

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
            # The clock counts too, because the entry itself may have been lost.
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
