"""Locks, which are rows beside the sessions, and the queues of those that wait for them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from chatsession.errors import SessionError, StorageError
from chatsession.storages.base import Lease, Locked, LockRequest
from chatsession.storages.postgres._database import Database
from chatsession.storages.postgres._driver import Connection, Row
from chatsession.storages.postgres._held_rows import HeldRows, of_key
from chatsession.storages.postgres._records import (
    INTEGERS,
    LONGEST_TIME,
    TEXTS,
    Batch,
    lock_call,
    number,
    numbers,
    record,
    texts,
)
from chatsession.storages.postgres._schema import Schema

_LONGEST_SLEEP = 0.9
"""Seconds; a waiter that has not repeated its request for 2.5 s counts as dead."""


class Locks:
    """The locks of one table of sessions.

    Args:
        database: where they are.
        schema: the tables in it.
        held_rows: knows which rows another transaction has locked.
    """

    def __init__(self, database: Database, schema: Schema, held_rows: HeldRows) -> None:
        self._database = database
        self._schema = schema
        self._held_rows = held_rows
        self._remaining: dict[str, float] = {}
        """Seconds until the lease ends that the waiter at the head of a queue waits for, by waiter."""

    def clear(self) -> None:
        """Forget all waiters."""
        self._remaining.clear()

    async def lock(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        """As `Storage.lock_many`."""
        return await self._held_rows.isolated(self._lock_together, requests, of_key)

    async def _lock_together(self, requests: Sequence[LockRequest]) -> Mapping[str, Locked | SessionError | None]:
        batch = Batch(requests)
        results: dict[str, Locked | SessionError | None] = {request.key: None for request in requests}
        results |= batch.refused
        if not batch.keys:
            return results
        request_of = batch.by_stored_key()
        function, arguments = lock_call(batch)
        sql = self._schema.sql(f"SELECT * FROM {function}")

        async def call(connection: Connection, again: bool) -> Sequence[Row]:
            return await connection.fetch(sql, *arguments, again)

        for key, token, remaining, value, version, expires_at in await self._database.run(call):
            request = request_of[cast("str", key)]
            if token is not None:
                lease = Lease(request.key, cast("int", token))
                results[request.key] = Locked(lease, record(value, version, expires_at))
            elif remaining is not None:
                self._remaining[request.waiter] = cast("float", remaining)
        return results

    async def renew(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        """As `Storage.renew_many`."""
        # A lease that cannot be renewed counts as lost: it may be, by the time its row is free.
        return await self._held_rows.isolated(partial(self._renew_together, seconds), leases, _lost)

    async def _renew_together(self, seconds: float, leases: Sequence[Lease]) -> Mapping[str, bool]:
        batch = Batch(leases)
        results = {lease.key: False for lease in leases}
        if batch.keys:
            tokens = [number(lease.token) for lease in batch.items]
            ((held,),) = await self._database.fetch(
                f"SELECT {{renew}}($1::{TEXTS}, $2::{INTEGERS}, $3)",
                *(texts(batch.keys), numbers(tokens), min(seconds, LONGEST_TIME)),
            )
            for lease, mine in zip(batch.items, cast("list[bool]", held), strict=True):
                results[lease.key] = mine
        return results

    async def abandon(self, requests: Sequence[LockRequest]) -> None:
        """As `Storage.abandon_many`."""
        for request in requests:
            self._remaining.pop(request.waiter, None)
        for error in await self._held_rows.isolated(self._abandon_together, requests, of_key):
            if error is not None:
                raise error

    async def _abandon_together(self, requests: Sequence[LockRequest]) -> Mapping[str, StorageError | None]:
        batch = Batch(requests)
        if batch.keys:
            waiters = texts([request.waiter for request in batch.items])
            await self._database.fetch(f"SELECT {{abandon}}($1::{TEXTS}, $2::{TEXTS})", texts(batch.keys), waiters)
        return {request.key: None for request in requests}

    async def wait(self, request: LockRequest, attempt: int) -> None:
        """As `Storage.wait_unlocked`."""
        most = min(_LONGEST_SLEEP, self._remaining.pop(request.waiter, _LONGEST_SLEEP) + 0.002)
        wakeups = self._database.wakeups
        if wakeups is None:
            await _pause(attempt, most)
            return
        await wakeups.check()
        if wakeups.listening:
            await wakeups.wait(request.waiter, most * random.uniform(0.9, 1.0))
        elif not await wakeups.start():
            await _pause(attempt, most)
        # Otherwise it listens from now on: the key may have been unlocked before, so the caller tries again at once.


def _lost(_lease: Lease, _error: StorageError) -> bool:
    return False


async def _pause(attempt: int, most: float) -> None:
    """Without wake-ups: ask soon at first, then ten times a second."""
    await asyncio.sleep(min(0.004 * 1.5 ** min(attempt, 20), 0.1, most) * random.uniform(0.7, 1.0))
