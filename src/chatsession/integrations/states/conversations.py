"""Conversation states on any storage: a state and its data are one record, and one unit of work in each update."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeVar

from chatsession.errors import SessionConflictError
from chatsession.integrations.states.entry import Entry, Write
from chatsession.integrations.states.records import (
    EMPTY,
    State,
    StateKey,
    StateRecord,
    changed_fields,
    edited,
    plain,
    updated,
)
from chatsession.integrations.states.unit import Part, StateUnit, current_unit
from chatsession.manager import SessionManager
from chatsession.unit_of_work.move import move
from chatsession.unit_of_work.unit import UnitOfWork

V = TypeVar("V")

_TRIES = 50


class States:
    """The states of conversations, as handlers, filters and other tasks see them.

    Inside an update, the records that it has locked are read once and written once, at its end. Everywhere else each
    call is atomic by itself: it waits for the update that is running for its key. Inside an update, a call for the
    key of *another* conversation must not wait, since that one could wait for this update: it is stored at once.

    Args:
        sessions: keeps their records, each of them under the lock of its key; made with `options_of`.
    """

    def __init__(self, sessions: SessionManager[StateRecord]) -> None:
        self.sessions: SessionManager[StateRecord] = sessions
        self._prefix = sessions.options.prefix
        unlocked = replace(sessions.options, storage=sessions.storage, concurrency="optimistic")
        self._unlocked: SessionManager[StateRecord] = SessionManager.from_options(unlocked)
        self.locked: dict[str, StateUnit] = {}
        """The open units, by the keys that they have locked."""
        self._writing: dict[str, asyncio.Future[None]] = {}
        """Writes without a lock that are under way, by key."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop to which both belong."""

    async def start(self, user: object = None) -> None:
        """Connect (again); for a bot until it calls `release`."""
        await self.sessions.runtime.start(user)
        await self._start_unlocked()

    async def release(self, user: object, timeout: float) -> None:
        """A bot ends: disconnect as `aclose`, unless there is another that called `start`."""
        await self.sessions.runtime.release(user, timeout)
        if self.sessions.runtime.loop is None:
            await self.aclose(0.0)

    async def aclose(self, timeout: float = 30.0) -> None:
        """Wait for the updates that are being handled, for `timeout` seconds at most, then disconnect."""
        await self.sessions.aclose(timeout)
        await self._unlocked.aclose(timeout)

    # The unit of an update.

    def current(self) -> StateUnit | None:
        """The unit of the update in which the caller runs, while it is open."""
        unit = current_unit.get()
        while unit is not None and not (unit.open and unit.states is self):
            unit = unit.around
        return unit

    def unit(
        self, key: StateKey, control_flow: tuple[type[BaseException], ...] = ()
    ) -> AbstractAsyncContextManager[StateUnit]:
        """Lock a record for an update, which is committed when the block ends, and not if it raises.

        Inside a block of the same task, the record becomes a part of that one's unit, and is committed with it.

        Args:
            key: of the record.
            control_flow: exceptions that are not failures: they commit.
        """
        around = self.current()
        if around is not None and around.task is asyncio.current_task():
            return Part(around, key, control_flow)
        return StateUnit(self, key, control_flow)

    async def lock(self, key: StateKey) -> UnitOfWork[StateRecord]:
        """The session of a record, locked and loaded."""
        unit = self.sessions.units.unit(self._prefix + key.text)
        while True:
            await unit.begin()
            self._forget_other_loops()
            writing = self._writing.get(key.text)
            if writing is None:
                return unit
            try:
                unit.doubt()
                await unit.abort()
                unit.reset()
                await asyncio.wait([writing])
            except BaseException:
                await unit.abort()
                raise

    def _forget_other_loops(self) -> None:
        """What was left in an event loop that ended, or in the process from which this one was forked, is not open."""
        loop = self.sessions.runtime.loop
        if self._loop is not loop:
            self._loop = loop
            self.locked.clear()
            self._writing.clear()

    async def load(self, key: StateKey) -> UnitOfWork[StateRecord]:
        """The session of a record, loaded without a lock."""
        unlocked = await self._start_unlocked()
        return await unlocked.units.unit(self._prefix + key.text).begin()

    async def _start_unlocked(self) -> SessionManager[StateRecord]:
        """Connect what takes no locks where `sessions` is connected, or is to be."""
        await self.sessions.runtime.enter_loop()
        if self._unlocked.runtime.loop is not self.sessions.runtime.loop:
            await self._unlocked.start()
        return self._unlocked

    async def move(self, old: str, new: str) -> None:
        """Move the record of one key to another, unless it is there already; nobody may have locked either.

        Updates that still come for the old key find it under the new one.
        """
        await move(self.sessions.runtime, self._prefix + old, self._prefix + new)

    async def move_all(self, old: str, new: str) -> None:
        """As `move`, for all records whose key begins with `old`, which then begins with `new`."""
        await self.sessions.units.move_all(old, new)

    # What handlers do.

    async def get_state(self, key: StateKey) -> State:
        """The state."""
        return (self._held(key) or await self._look(key)).state

    async def get_data(self, key: StateKey) -> dict[str, Any]:
        """The data, as a copy."""
        return (self._held(key) or await self._look(key)).copy_data()

    async def get_value(self, key: StateKey, name: str, default: V) -> Any | V:
        """One field of the data, as a copy."""
        return (await self.get_data(key)).get(name, default)

    async def set_state(self, key: StateKey, state: State) -> StateRecord:
        """Set the state, and keep the data."""
        return await self.write(key, lambda record: StateRecord.of_json(state, record.json))

    async def set_data(self, key: StateKey, data: Mapping[str, Any]) -> StateRecord:
        """Replace the data, and keep the state. Raises `SessionEncodeError` where the data is not JSON."""
        new = plain(data, key.text)
        return await self.write(key, lambda record: StateRecord.of_json(record.state, new))

    async def update_data(self, key: StateKey, data: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields of the data, and give a copy of all; raises as `set_data`."""
        new = plain(data, key.text)
        written = await self.write(key, lambda record: updated(record, new))
        return written.copy_data()

    @contextlib.asynccontextmanager
    async def editing(self, key: StateKey) -> AsyncGenerator[dict[str, Any]]:
        """The data, to be changed in place, and stored when the block ends, unless it raises.

        Raises:
            SessionConflictError: others have changed the data meanwhile, which only happens inside the update of
                another conversation.
        """
        async with contextlib.AsyncExitStack() as stack:
            unit = self.current()
            if unit is None or (unit.holds(key) and unit.task is asyncio.current_task()):
                unit = await stack.enter_async_context(self.unit(key))
            record = self._held(key) or await self._look(key)
            before, data = record.copy_data(), record.copy_data()
            yield data
            plain(data, key.text)
            if changed_fields(before, data):
                current_unit.set(unit)  # a block that a thread enters may be left by another
                await self.write(key, lambda record: _edited(key, record, before, data))

    def _held(self, key: StateKey) -> Entry | None:
        """The record, if the unit of the caller's update has loaded it."""
        unit = self.current()
        return None if unit is None else unit.entries.get(key.text)

    async def _look(self, key: StateKey) -> Entry | StateRecord:
        """The record as the caller's update sees it; as it is stored, if it is somebody else's."""
        return await self._entry(key) or await self._read(key)

    async def _entry(self, key: StateKey) -> Entry | None:
        """The record in the unit of the caller's update, if it belongs to that."""
        unit = self.current()
        if unit is None:
            return None
        entry = unit.entries.get(key.text) or await unit.load(key)
        return entry if unit.open else None

    async def _read(self, key: StateKey) -> StateRecord:
        """The record as it is stored."""
        session = await self.load(key)
        try:
            if (unit := self.current()) is not None:
                unit.look_at(key, session)
            return session.data if session.exists else EMPTY
        finally:
            await session.abort()

    async def write(self, key: StateKey, write: Write) -> StateRecord:
        """Change a record atomically; what `write` raises is raised, and nothing is written."""
        if (entry := self._held(key) or await self._entry(key)) is not None:
            return entry.write(write)
        unit = self.current()
        if unit is not None:
            unit.forget(key)
            return await self._write_unlocked(key, write)
        async with self.unit(key) as unit:
            return await self.write(key, write)

    async def _write_unlocked(self, key: StateKey, write: Write) -> StateRecord:
        """Write a record of somebody else, and wait for nobody's lock."""
        unlocked = await self._start_unlocked()
        self._forget_other_loops()
        tries = 0
        while True:
            if (holder := self.locked.get(key.text)) is not None:
                if (record := await holder.write_through(key, write)) is not None:
                    return record
            elif (earlier := self._writing.get(key.text)) is not None:
                await asyncio.wait([earlier])
            else:
                tries += 1
                try:
                    return await self._compare_and_swap(unlocked, key, write)
                except SessionConflictError:
                    if tries == _TRIES:
                        raise
                await asyncio.sleep(random.uniform(0, 0.001 * min(tries, 20)))

    async def _compare_and_swap(
        self, unlocked: SessionManager[StateRecord], key: StateKey, write: Write
    ) -> StateRecord:
        done = self._writing[key.text] = asyncio.get_running_loop().create_future()
        try:
            async with unlocked.open(key.text) as session:
                record = write(session.data if session.exists else EMPTY)
                session.data = None if record.empty else record
            return record
        finally:
            del self._writing[key.text]
            done.set_result(None)


def _edited(key: StateKey, record: StateRecord, before: dict[str, Any], after: dict[str, Any]) -> StateRecord:
    if (new := edited(record, before, after)) is None:
        raise SessionConflictError(
            "others have changed the same part of its data since it was read; nothing was written, read it again",
            key=key.text,
        )
    return new
