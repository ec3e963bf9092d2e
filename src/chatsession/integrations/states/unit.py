"""What one update does to conversations: committed as a whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from chatsession.errors import SessionConflictError
from chatsession.integrations.states.entry import Entry, Write
from chatsession.integrations.states.records import StateKey, StateRecord
from chatsession.integrations.update_scope import UpdateScope
from chatsession.unit_of_work.group import Unit, abort_all, commit_all
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.states.conversations import States


current_unit: ContextVar[StateUnit | None] = ContextVar("chatsession states", default=None)
"""The unit of the update that is being handled. Tasks that a handler leaves running keep it, closed."""


class StateUnit:
    """The records that one update has locked or looked at: committed when the block ends, unless it raises.

    Args:
        states: where they are kept.
        key: of the record to lock.
        control_flow: exceptions that are not failures: they commit.
    """

    __slots__ = (
        "_busy",
        "_control_flow",
        "_ended",
        "_key",
        "_others",
        "_savepoints",
        "_seen",
        "around",
        "entries",
        "open",
        "scope",
        "states",
        "task",
    )

    def __init__(self, states: States, key: StateKey, control_flow: tuple[type[BaseException], ...]) -> None:
        self.states: States = states
        self._key = key
        self._control_flow = control_flow
        self.around: StateUnit | None = None
        """The open unit of other states in which this one begins."""
        self.task: asyncio.Task[object] | None = None
        """Of the update."""
        self.open: bool = False
        self.entries: dict[str, Entry] = {}
        """The records of this update, by key."""
        self._seen: dict[str, object] = {}
        """Versions of the records of others that the update has looked at."""
        self._others: list[Unit] = []
        """Sessions that are committed together with the records."""
        self._savepoints: list[dict[str, StateRecord]] = []
        """What the update had made of the records when each of its open parts began."""
        self._busy: asyncio.Lock | None = None
        """Held by whoever loads a record, or writes through this unit; `None`: nobody has done so yet."""
        self._ended: asyncio.Event | None = None
        self.scope: UpdateScope | None = None
        """The sessions of the update, while it is handled."""

    async def __aenter__(self) -> Self:
        around = current_unit.get()
        while around is not None and not around.open:
            around = around.around
        self.around = around
        self.task = asyncio.current_task()
        await self.lock(self._key)
        self.open = True
        current_unit.set(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and not issubclass(kind, self._control_flow):
                await self.abort()
            elif self.open:  # else the framework has said before that the update failed
                await self.commit()
        finally:
            current_unit.set(self.around)

    async def lock(self, key: StateKey) -> None:
        """Wait for a record and load it; it stays locked until this unit ends.

        Raises:
            SessionConflictError: others have changed it since this update looked at it.
        """
        earlier = self.entries.get(key.text)
        if earlier is not None and earlier.locked:
            return
        entry = Entry(key, await self.states.lock(key), locked=True)
        if earlier is not None:
            self._seen.setdefault(key.text, earlier.version)
            entry.view = earlier.view
            await earlier.unit.abort()
        if self._seen:
            await self._check(entry)
        self.entries[key.text] = entry
        self.states.locked[key.text] = self

    async def load(self, key: StateKey) -> Entry | None:
        """A record that is not in `entries`, if it is committed with this unit; `None`: it is somebody else's."""
        if not any(entry.locked and entry.key.owner == key.owner for entry in self.entries.values()):
            return None
        async with self._lock():
            if key.text not in self.entries and self.open:
                # What was locked guards this record as well. Should others write it all the same, the commit fails.
                entry = Entry(key, await self.states.load(key), locked=False)
                await self._check(entry)
                self.entries[key.text] = entry
            return self.entries.get(key.text)

    def look_at(self, key: StateKey, unit: UnitOfWork[StateRecord]) -> None:
        """The update has looked at a record that is not its own, or not yet."""
        self._seen[key.text] = unit.record and unit.record.version

    def forget(self, key: StateKey) -> None:
        """The update is about to write what it has looked at."""
        self._seen.pop(key.text, None)

    async def _check(self, entry: Entry) -> None:
        if self._seen.get(entry.key.text, entry.version) != entry.version:
            await entry.unit.abort()
            raise SessionConflictError(
                "others have changed it since this update looked at it; nothing was written, handle the update again "
                "if it must count",
                key=entry.key.text,
            )

    async def write_through(self, key: StateKey, write: Write) -> StateRecord | None:
        """Let another update write a record that this one has locked; `None`: this one has ended meanwhile."""
        async with self._lock():
            if self.open:
                earlier = [(views, write(views[key.text])) for views in self._savepoints if key.text in views]
                record = await self.entries[key.text].write_through(write)
                for views, view in earlier:
                    views[key.text] = view
                return record
        if self.entries:  # its end is under way
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        return None

    def join(self, scope: UpdateScope) -> None:
        """Let the sessions of the update be committed together with the records."""
        self.scope, scope.states = scope, self
        scope.beside = self._identify(scope.context.update_id)

    def add(self, scope: UpdateScope) -> None:
        """The update is done: commit its sessions together with the records."""
        if not scope.handled and scope.beside is not None:
            scope.beside.update_id = None  # what nobody has handled is not remembered
        self._others.extend(scope.close())
        self.scope = None

    def undo(self) -> None:
        """A handler failed: take back what the update has done to the records."""
        self.return_to({})

    def _identify(self, update_id: int | None) -> UnitOfWork[StateRecord] | None:
        """Let the record that was locked first remember the update, if it is to remember updates; gives its session.

        Args:
            update_id: of the update that is about to be handled; `None`: it has none.
        """
        first = next(iter(self.entries.values()), None)
        if not update_id or first is None:
            return None
        unit = first.unit
        if not unit.runtime.deduplicate or unit.update_id is not None:  # it is one that a handler has fed
            return None
        unit.update_id = update_id
        unit.redelivered = unit.unpacked is not None and update_id in unit.unpacked.updates
        return unit

    def holds(self, key: StateKey) -> bool:
        """Whether this unit has locked a record."""
        entry = self.entries.get(key.text)
        return entry is not None and entry.locked

    def begin_part(self) -> dict[str, StateRecord]:
        """Returns what the update has made of the records up to now, for `return_to`."""
        views = {text: entry.view for text, entry in self.entries.items()}
        self._savepoints.append(views)
        return views

    def end_part(self, views: dict[str, StateRecord]) -> None:
        """A part has ended, which began with these views."""
        self._savepoints = [each for each in self._savepoints if each is not views]

    def return_to(self, views: Mapping[str, StateRecord]) -> None:
        """Undo what the update did since `begin_part`, and keep what others wrote."""
        for text, entry in self.entries.items():
            entry.view = views.get(text, entry.stored)

    async def commit(self) -> None:
        """The update is done: prepare all records and sessions, then commit all, or none."""
        try:
            await self._close()
            for entry in self.entries.values():
                entry.settle()
                if self._others:
                    # Nothing of this key must be ahead of its commit, so that all of them reach the storage in one
                    # batch; and if the update before this one was not stored, no session may be.
                    await entry.unit.wait_durable()
            units = self._units
            await (units[0].commit() if len(units) == 1 else commit_all(units))
        except BaseException:
            await abort_all(self._units)
            raise
        finally:
            self._end()

    async def abort(self) -> None:
        """The update failed: write nothing. May be called twice."""
        try:
            await self._close()
        finally:
            try:
                await abort_all(self._units)
            finally:
                self._end()

    @property
    def _units(self) -> list[Unit]:
        return [*[entry.unit for entry in self.entries.values()], *self._others]

    async def _close(self) -> None:
        self.open = False
        if self._busy is not None:
            async with self._busy:
                pass

    def _end(self) -> None:
        for text in self.entries:
            if self.states.locked.get(text) is self:
                del self.states.locked[text]
        self.entries.clear()
        self._others.clear()
        if self._ended is not None:
            self._ended.set()

    def _lock(self) -> asyncio.Lock:
        self._busy = self._busy or asyncio.Lock()
        return self._busy


class Part:
    """A block inside a unit of the same task: locks one more record, and takes back its own changes if it raises.

    Args:
        unit: which commits them.
        key: of the record to lock.
        control_flow: exceptions that are not failures.
    """

    def __init__(self, unit: StateUnit, key: StateKey, control_flow: tuple[type[BaseException], ...]) -> None:
        self._unit = unit
        self._key = key
        self._control_flow = control_flow

    async def __aenter__(self) -> StateUnit:
        await self._unit.lock(self._key)
        self._before = self._unit.begin_part()
        return self._unit

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, self._control_flow):
            self._unit.return_to(self._before)
        self._unit.end_part(self._before)
