"""One unit of work: a session is loaded, looked at, changed or not, and committed or aborted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Self, TypeVar

from chatsession.actions import methods_of
from chatsession.coordination.coordinator import Acquired
from chatsession.coordination.group_commit import same_version
from chatsession.errors import SessionActionError, SessionClosedError, SessionConflictError, SessionError
from chatsession.serialization.pipeline import Unpacked
from chatsession.storages import Change, Committed, Record
from chatsession.unit_of_work.async_only import AsyncOnly
from chatsession.unit_of_work.loaded import UNMADE, Loaded, MovedError
from chatsession.unit_of_work.outbox import Outbox
from chatsession.unit_of_work.runtime import Runtime
from chatsession.unit_of_work.session import Session

T = TypeVar("T")

_log = logging.getLogger("chatsession")


class _Phase(Enum):
    NEW = "is not open yet; enter it by `async with`"
    OPENING = "is not loaded yet"
    OPEN = "is open"
    RELEASED = "was released: it may be read, but a change would be lost; open it again to change it"
    CLOSED = "is used after its update was done, so that a change would be lost; open it again to use it"


_NEW, _OPENING, _OPEN, _RELEASED, _CLOSED = _Phase
_NO_EPOCH = -1
_TURN = Acquired(None, None)
"""The turn in this process, without a lock on the storage yet."""


class UnitOfWork(Loaded[T], Session[T], AsyncOnly):
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

    __slots__ = ("_epoch", "_pending", "_phase", "_prepared", "_released_as", "_reload")

    def __init__(self, runtime: Runtime[T], key: str, update_id: int | str | None = None, ctx: object = None) -> None:
        self.runtime = runtime
        self.full_key = key
        self.update_id = update_id
        self.ctx = ctx
        self.acquired = self.outbox = None
        self.touched = self.assigned = self.misfit = self.redelivered = False
        self.record = self.unpacked = None
        self.value = UNMADE
        self._phase = _NEW
        self._epoch = _NO_EPOCH
        """Of the runtime while this is open: another one means another event loop or process."""
        self._prepared = False
        """What the commit will do is decided, and is `_pending`."""
        self._pending: Change | None = None
        self._reload = False
        """What is stored is not known any more: the next update must read it."""
        self._released_as: object = UNMADE

    def __repr__(self) -> str:
        return f"<Session {self.full_key!r}, {self._phase.name.lower()}>"

    # What users see.

    @property
    def key(self) -> str:
        return self.full_key[len(self.runtime.prefix) :]

    @property
    def data(self) -> T:
        if self._phase is not _OPEN and self._phase is not _RELEASED:
            raise self._misused()
        self.touched = True
        if self.value is UNMADE:
            self.value = self.runtime.serializer.fresh(self.full_key)
            if self._phase is _RELEASED:
                self._released_as = self.fingerprint()
        return self.value

    @data.setter
    def data(self, value: T | None) -> None:
        if self._phase is not _OPEN:
            raise self._misused()
        self.value = value
        self.touched = self.assigned = True

    async def save(self) -> None:
        if self._phase is not _OPEN or self._epoch != self.runtime.epoch:
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
        if self._phase is not _OPEN:
            raise self._misused()
        try:
            left = self._leave()
            self.note(self._pending, left if isinstance(left, Committed) or left is None else await left)
        except BaseException:
            await self.abort()
            raise
        self._phase = _RELEASED
        self._released_as = self.fingerprint()
        if self.outbox is not None:
            await self.outbox.send()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something when this is committed, and not at all when it is not; see `SessionFlavor.after_commit`."""
        if self._phase is not _OPEN or self._epoch != self.runtime.epoch:
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
        if self._phase is not _NEW or runtime.loop is not asyncio.get_running_loop():
            await self._admit()
        self._enter()
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
            self._phase = _OPEN
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
        self._phase = _OPEN
        return self

    def prepare(self) -> None:
        """Encode what is to be written, so that a value which cannot be stored is found before any commit."""
        if self._phase is _OPEN and not self._prepared:
            self._pending = self.pending_change()
            self._prepared = True

    async def wait_durable(self) -> None:
        """Wait until what was given with the key is durable. Raises `SessionConflictError` if it never will be."""
        if self.acquired is not None and self.acquired.lease is not None:
            await self.runtime.coordinator.wait_durable(self.acquired.lease)

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
            if self._phase is _OPEN:
                left = self._leave()
                if left is not None and not isinstance(left, Committed):
                    await left
            elif self._phase is _RELEASED:
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
        if self.outbox is not None and self._phase is not _CLOSED and not self.redelivered:
            self.outbox.discard()
        try:
            if acquired is not None and self._epoch == self.runtime.epoch:
                coordinator = self.runtime.coordinator
                if self._reload:
                    await coordinator.release(self.full_key, acquired)
                else:
                    record = acquired.record if self._phase is _OPENING else self.record
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

    def reassign(self, task: asyncio.Task[object] | None) -> None:
        """Let another task hold the key."""
        if self.acquired is not None:
            self.runtime.coordinator.queue.reassign(self.full_key, task)

    # The steps of several sessions that are opened together.

    @property
    def lock_order(self) -> tuple[tuple[str, int], str]:
        """Where it stands in the one order in which sessions are locked."""
        return self.runtime.coordinator.lock_order, self.full_key

    async def enter_queue(self) -> None:
        """The first half of `begin`: wait for the turn in this process."""
        await self._admit()
        self._enter()
        if not self.runtime.exclusive:
            return
        try:
            handover = await self.runtime.coordinator.enter_queue(self.full_key, self.runtime.lock_timeout)
        except BaseException:
            self._close()
            raise
        self.acquired = handover or _TURN

    async def try_lock(self) -> bool:
        """The second half of `begin`: lock and load; `False` if another process holds the key."""
        runtime = self.runtime
        if not runtime.exclusive:
            await self._arrive(await runtime.coordinator.read(self.full_key))
            return True
        if self.acquired is _TURN:
            acquired = await runtime.coordinator.try_lock(self.full_key, runtime.lock_lease)
            if acquired is None:
                return False
            self.acquired = acquired
        await self._arrive(self.acquired.record if self.acquired else None)
        return True

    async def lock(self) -> None:
        """As `try_lock`, but waits for the other process."""
        runtime = self.runtime
        self.acquired = await runtime.coordinator.lock(self.full_key, runtime.lock_timeout, runtime.lock_lease)
        await self._arrive(self.acquired.record)

    async def unlock(self) -> None:
        """Undo `try_lock`."""
        acquired = self.acquired
        if acquired is not None and acquired is not _TURN:
            self.acquired = _TURN
            await self.runtime.coordinator.unlock(acquired)
        self.reset()
        self._phase = _OPENING

    @property
    def is_locked(self) -> bool:
        """Whether this update holds the lock of the key in the storage."""
        return self.acquired is not None and self.acquired.lease is not None

    async def lend(self) -> None:
        """Let other processes have the key for a while; `take_back` follows, or this can only write what fits."""
        await self.wait_durable()
        acquired, self.acquired = self.acquired, _TURN
        if acquired is not None:
            await self.runtime.coordinator.unlock(acquired)

    async def take_back(self) -> None:
        """Lock the key again. Raises `SessionConflictError` if what is stored was changed meanwhile."""
        before, runtime = self.record, self.runtime
        self.acquired = await runtime.coordinator.lock(self.full_key, runtime.lock_timeout, runtime.lock_lease)
        if not same_version(before, self.acquired.record):
            raise SessionConflictError(
                "somebody else changed it while this update waited for another session; nothing was written, "
                "handle the update again if it must count",
                key=self.full_key,
            )

    def reset(self) -> None:
        """Be as new after an `abort`."""
        self._phase = _NEW
        self._reload = False
        self.unload()

    # What all of these are made of.

    async def _admit(self) -> None:
        if self._phase is not _NEW:
            raise SessionClosedError("this Session was used before; open another", key=self.full_key)
        if self.runtime.loop is not asyncio.get_running_loop():
            await self.runtime.admit(self.full_key)

    def _enter(self) -> None:
        runtime = self.runtime
        runtime.active += 1
        self._epoch = runtime.epoch
        self._phase = _OPENING

    async def _arrive(self, record: Record | None) -> None:
        if record is not None and (misfit := self.load(record)) is not None:
            await self._set_aside(record, misfit)
        self._phase = _OPEN

    async def _set_aside(self, record: Record, misfit: SessionError) -> None:
        await self.runtime.set_aside(self.full_key, record, misfit)
        self.misfit = True

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

    def _close(self) -> None:
        if self._epoch == self.runtime.epoch:
            self.runtime.leave()
        self._epoch = _NO_EPOCH
        self._phase = _CLOSED

    async def _close_after_sending(self, outbox: Outbox) -> None:
        """Let nobody use it any more, and let the manager's end wait for what is sent."""
        self._phase = _CLOSED
        try:
            await outbox.send()
        finally:
            if self._epoch == self.runtime.epoch:
                self.runtime.leave()

    def _why_unstored(self) -> str:
        if self.runtime.serializer.pipeline is None:
            return "a StorageAdapter has no place for it"
        return "this update has no id" if self.runtime.deduplicate else "deduplicate is off"

    def _misused(self) -> SessionClosedError:
        if self._phase is _OPEN:
            return SessionClosedError(
                "it was opened in another event loop or process, where its lock is; open it here", key=self.full_key
            )
        return SessionClosedError(f"the session {self._phase.value}", key=self.full_key)
