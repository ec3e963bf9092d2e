"""One unit of work: a session is loaded, looked at, changed or not, and committed or aborted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from chatsession.actions import methods_of
from chatsession.coordination.coordinator import Acquired
from chatsession.errors import SessionActionError, SessionClosedError, SessionConflictError, SessionError
from chatsession.serialization.pipeline import Unpacked
from chatsession.storages import Change, Committed, Record
from chatsession.unit_of_work.async_only import AsyncOnly
from chatsession.unit_of_work.loaded import UNMADE, MovedError
from chatsession.unit_of_work.opening import CLOSED, NEW, NO_EPOCH, OPEN, OPENING, RELEASED, Opening
from chatsession.unit_of_work.outbox import Outbox
from chatsession.unit_of_work.runtime import Runtime
from chatsession.unit_of_work.session import Session

T = TypeVar("T")

_log = logging.getLogger("chatsession")


class UnitOfWork(Opening[T], Session[T], AsyncOnly):
    """A session, and the steps of its life, which managers, middlewares and integrations take.

    Args:
        runtime: of the manager.
        key: with the prefix.
        update_id: of the update in which it is opened, where updates are remembered; `None`: it has none.
        ctx: of that update; `None`: it is opened outside any update.
    """

    runtime: Runtime[T]
    record: Record | None
    acquired: Acquired | None
    ctx: object
    unpacked: Unpacked | None
    value: Any
    touched: bool
    assigned: bool
    misfit: bool
    redelivered: bool

    __slots__ = ("_pending", "_prepared", "_released_as")

    def __init__(self, runtime: Runtime[T], key: str, update_id: int | str | None = None, ctx: object = None) -> None:
        self.runtime = runtime
        self.full_key = key
        self.update_id = update_id
        self.ctx = ctx
        self.acquired = self.outbox = None
        self.touched = self.assigned = self.misfit = self.redelivered = False
        self.record = self.unpacked = None
        self.value = UNMADE
        self._phase = NEW
        self._epoch = NO_EPOCH
        self._reload = False
        self._prepared = False
        """What the commit will do is decided, and is `_pending`."""
        self._pending: Change | None = None
        self._released_as: object = UNMADE

    def __repr__(self) -> str:
        return f"<Session {self.full_key!r}, {self._phase.name.lower()}>"

    # What users see.

    @property
    def key(self) -> str:
        return self.full_key[len(self.runtime.prefix) :]

    @property
    def data(self) -> T:
        if self._phase is not OPEN and self._phase is not RELEASED:
            raise self._misused()
        self.touched = True
        if self.value is UNMADE:
            self.value = self.runtime.serializer.fresh(self.full_key)
            if self._phase is RELEASED:
                self._released_as = self.fingerprint()
        return self.value

    @data.setter
    def data(self, value: T | None) -> None:
        if self._phase is not OPEN:
            raise self._misused()
        self.value = value
        self.touched = self.assigned = True

    async def save(self) -> None:
        if self._phase is not OPEN or self._epoch != self.runtime.epoch:
            raise self._misused()
        change = self.pending_change()
        if change is not None:
            self._reload = True
            if self.outbox is not None:
                self.outbox.enter_queue()
            await self.runtime.coordinator.commit(change, lambda committed: self.note(change, committed))
            self._reload = False
        else:
            await self.wait_durable()
        if self.outbox is not None:
            await self.outbox.send()

    async def release(self) -> None:
        if self._phase is not OPEN:
            raise self._misused()
        try:
            left = self._leave()
            self.note(self._pending, left if isinstance(left, Committed) or left is None else await left)
        except BaseException:
            await self.abort()
            raise
        self._phase = RELEASED
        self._released_as = self.fingerprint()
        if self.outbox is not None:
            await self.outbox.send()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something when this is committed, and not at all when it is not; see `SessionFlavor.after_commit`."""
        if self._phase is not OPEN or self._epoch != self.runtime.epoch:
            raise self._misused()
        if self.ctx is None:
            raise SessionActionError(
                "after_commit works inside an update only; elsewhere, send after the block that opens the session",
                key=self.full_key,
            )
        if self.redelivered:  # it counts what was stored then
            return
        if self.outbox is None:
            self.outbox = Outbox(self.runtime.outgoing, self.full_key, self.update_id, methods_of(self.ctx))
            if self.update_id is None:
                self.runtime.outgoing.tell_unstored(self.full_key, self._why_unstored())
        self.outbox.add(action, args, kwargs)

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        return self.begin()

    def __aexit__(self, kind: type[BaseException] | None, *_: object) -> Coroutine[Any, Any, None]:
        return self.commit() if kind is None else self.abort()

    # The steps of one session.

    async def begin(self) -> Self:
        """Wait for the key, lock it, load."""
        runtime, key = self.runtime, self.full_key
        if self._phase is not NEW or runtime.loop is not asyncio.get_running_loop():
            await self._admit()
        runtime.active += 1
        self._epoch, self._phase = runtime.epoch, OPENING
        try:
            if runtime.exclusive:
                acquired = runtime.coordinator.try_acquire(key)
                if acquired is None:
                    acquired = await runtime.coordinator.acquire(key, runtime.lock_timeout, runtime.lock_lease)
                self.acquired = acquired
                record = acquired.record
            else:
                record = await runtime.coordinator.read(key)
            if record is not None and (misfit := self.load(record)) is not None:
                await self._set_aside(record, misfit)
            self._phase = OPEN
        except MovedError as moved:
            await self.abort()
            await self.follow(moved)
            self.reset()
            return await self.begin()
        except BaseException:
            await self.abort()
            raise
        return self

    async def begin_unread(self) -> Self:
        """Wait for the key, and load nothing: the value is about to be assigned."""
        await self.enter_queue()
        self._phase = OPEN
        return self

    def prepare(self) -> None:
        """Encode what is to be written, so that a value which cannot be stored is found before any commit."""
        if self._phase is OPEN and not self._prepared:
            self._pending = self.pending_change()
            self._prepared = True

    def write_nothing(self) -> None:
        """Write nothing at the end, whatever was looked at."""
        self._prepared = True

    def take_outbox(self) -> Outbox | None:
        """What is to be sent after the commit, for the caller to send; `prepare` comes before."""
        outbox, self.outbox = self.outbox, None
        if outbox is not None:
            outbox.enter_queue()
        return outbox

    async def commit(self) -> None:
        """The handler returned: commit, and let the next update in."""
        try:
            if self._phase is OPEN:
                left = self._leave()
                if left is not None and not isinstance(left, Committed):
                    await left
            elif self._phase is RELEASED:
                self._check_unchanged()
        except BaseException:
            await self.abort()
            raise
        if self.outbox is None:
            self._close()
        else:
            await self._close_after_sending(self.outbox)
        self.ctx = None  # which holds this unit: a cycle would leave both to the garbage collector

    async def abort(self) -> None:
        """The handler failed: write nothing, and let the next update in. May be called twice."""
        acquired, self.acquired = self.acquired, None
        if self.outbox is not None and self._phase is not CLOSED and not self.redelivered:
            self.outbox.discard()
        try:
            if acquired is not None and self._epoch == self.runtime.epoch:
                coordinator = self.runtime.coordinator
                if self._reload:
                    await coordinator.release(self.full_key, acquired)
                else:
                    record = acquired.record if self._phase is OPENING else self.record
                    await coordinator.commit_and_release(self.full_key, acquired, record, None)
        except SessionConflictError:  # what it was given was never stored, and nothing is to come of it anyway
            pass
        except SessionError as error:  # the handler's own error is what its caller must see
            _log.warning("a session lock could not be given back, it will run out by itself: %s", error)
        finally:
            self._close()

    def doubt(self) -> None:
        """Somebody else is changing what is stored: the next update must read it."""
        self._reload = True

    def _leave(self) -> Coroutine[Any, Any, Committed | None] | Committed | None:
        """Commit, and let the next update in; to be awaited unless that is done already."""
        if self._epoch != self.runtime.epoch:
            raise self._misused()
        if not self._prepared:
            self._pending = self.pending_change()
        if self.outbox is not None:
            self.outbox.enter_queue()
        coordinator, change = self.runtime.coordinator, self._pending
        acquired, self.acquired = self.acquired, None
        if acquired is None:
            return None if change is None else coordinator.commit(change)
        if self._reload and change is None:
            return coordinator.release(self.full_key, acquired)
        if not coordinator.immediate:
            return coordinator.commit_and_release(self.full_key, acquired, self.record, change)
        return coordinator.commit_immediately(change, self.full_key)

    def _check_unchanged(self) -> None:
        if self.fingerprint() != self._released_as:
            raise SessionClosedError(
                "its data was changed after it was released, and that change is lost; "
                "make later changes through sessions.open() or sessions.update()",
                key=self.full_key,
            )

    async def _close_after_sending(self, outbox: Outbox) -> None:
        """Let nobody use it any more, and let the manager's end wait for what is sent."""
        self._phase = CLOSED
        try:
            await outbox.send()
        finally:
            if self._epoch == self.runtime.epoch:
                self.runtime.leave()

    def _why_unstored(self) -> str:
        if self.runtime.serializer.pipeline is None:
            return "a StorageAdapter has no place for it"
        return "this update has no id" if self.runtime.deduplicate else "deduplicate is off"
