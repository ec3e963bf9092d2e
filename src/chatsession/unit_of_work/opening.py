"""How a session is opened: the phases of its life, and the key that it waits for, locks, lends and takes back."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TypeVar

from chatsession.coordination.coordinator import Acquired
from chatsession.coordination.group_commit import same_version
from chatsession.errors import SessionClosedError, SessionConflictError, SessionError
from chatsession.storages import Record
from chatsession.unit_of_work.loaded import Loaded

T = TypeVar("T")


class Phase(Enum):
    """Where a session is in its life, as its errors say it."""

    NEW = "is not open yet; enter it by `async with`"
    OPENING = "is not loaded yet"
    OPEN = "is open"
    RELEASED = "was released: it may be read, but a change would be lost; open it again to change it"
    CLOSED = "is used after its update was done, so that a change would be lost; open it again to use it"


NEW, OPENING, OPEN, RELEASED, CLOSED = Phase
NO_EPOCH = -1
_TURN = Acquired(None, None)
"""The turn in this process, without a lock on the storage yet."""


class Opening(Loaded[T]):
    """A session as seen by those who open it; several that are opened together take the same steps."""

    __slots__ = ("_epoch", "_phase", "_reload")

    acquired: Acquired | None
    _phase: Phase
    _epoch: int
    """Of the runtime while this is open: another one means another event loop or process."""
    _reload: bool
    """What is stored is not known any more: the next update must read it."""

    @property
    def lock_order(self) -> tuple[tuple[str, int], str]:
        """Where it stands in the one order in which sessions are locked."""
        return self.runtime.coordinator.lock_order, self.full_key

    async def enter_queue(self) -> None:
        """The first half of `begin`: wait for the turn in this process."""
        await self._admit()
        runtime = self.runtime
        runtime.active += 1
        self._epoch, self._phase = runtime.epoch, OPENING
        if not runtime.exclusive:
            return
        try:
            handover = await runtime.coordinator.enter_queue(self.full_key, runtime.lock_timeout)
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
        self._phase = OPENING

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

    async def wait_durable(self) -> None:
        """Wait until what was given with the key is durable. Raises `SessionConflictError` if it never will be."""
        if self.acquired is not None and self.acquired.lease is not None:
            await self.runtime.coordinator.wait_durable(self.acquired.lease)

    def reassign(self, task: asyncio.Task[object] | None) -> None:
        """Let another task hold the key."""
        if self.acquired is not None:
            self.runtime.coordinator.queue.reassign(self.full_key, task)

    def reset(self) -> None:
        """Be as new after an `abort`."""
        self._phase = NEW
        self._reload = False
        self.unload()

    async def _admit(self) -> None:
        if self._phase is not NEW:
            raise SessionClosedError("this Session was used before; open another", key=self.full_key)
        if self.runtime.loop is not asyncio.get_running_loop():
            await self.runtime.admit(self.full_key)

    async def _arrive(self, record: Record | None) -> None:
        if record is not None and (misfit := self.load(record)) is not None:
            await self._set_aside(record, misfit)
        self._phase = OPEN

    async def _set_aside(self, record: Record, misfit: SessionError) -> None:
        await self.runtime.set_aside(self.full_key, record, misfit)
        self.misfit = True

    def _close(self) -> None:
        if self._epoch == self.runtime.epoch:
            self.runtime.leave()
        self._epoch = NO_EPOCH
        self._phase = CLOSED

    def _misused(self) -> SessionClosedError:
        if self._phase is OPEN:
            return SessionClosedError(
                "it was opened in another event loop or process, where its lock is; open it here", key=self.full_key
            )
        return SessionClosedError(f"the session {self._phase.value}", key=self.full_key)
