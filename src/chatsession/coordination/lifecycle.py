"""The life of a storage: opened once, closed with its last user, in one event loop of one process."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol
from weakref import WeakSet

from chatsession.errors import SessionError
from chatsession.storages import Storage


class Member(Protocol):
    """A user of a storage."""

    def leave_loop(self) -> None:
        """Forget everything that belongs to an event loop that has ended, or to the parent process."""
        ...


class Visitor:
    """A user of a storage without anything that belongs to an event loop."""

    def leave_loop(self) -> None:
        """There is nothing to forget."""


class Traffic(Protocol):
    """The calls to a storage that are waiting or under way."""

    async def drain(self) -> None:
        """Return when nothing is waiting or under way."""
        ...

    def halt(self) -> None:
        """Start no further calls."""
        ...

    def forget(self) -> None:
        """Forget everything that belongs to an event loop that has ended, or to the parent process."""
        ...


class Lifecycle:
    """Opens a storage for its first user and closes it with its last.

    Connections, threads and futures belong to the event loop and the process that made them. In another event loop,
    once the first has ended, and in a forked child, the storage is opened again, and nothing inherited is touched.

    Args:
        storage: the storage.
        traffic: the calls that must end before it is closed.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_inherited",
        "_members",
        "_opened_here",
        "_opening",
        "_traffic",
        "loop",
        "storage",
    )

    def __init__(self, storage: Storage, traffic: Traffic) -> None:
        self.storage: Storage = storage
        self._traffic = traffic
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop to which the storage belongs; `None` before the first.

        An update takes it from here: before Python 3.12, asyncio asks for the process id to tell the running loop.
        """
        self._inherited = False
        self._members: set[Member] = set()
        self._opened_here = False
        self._opening: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None
        _alive.add(self)

    async def join(self, member: Member) -> None:
        """Add a user, and open the storage if it is not open.

        Raises:
            SessionError: another event loop is using it.
            StorageError: it cannot be opened.
        """
        self.enter_loop()
        self._members.add(member)
        if self._closing is not None:
            await asyncio.wait([self._closing])
        if self.storage.is_open:
            return
        if self._opening is None:
            self._opened_here = True
            self._opening = asyncio.ensure_future(self.storage.open())
            self._opening.add_done_callback(self._opening_done)
        try:
            await asyncio.shield(self._opening)  # one opens it for all that wait, which continue in their order
        except Exception:
            self._members.discard(member)
            raise

    async def part(self, member: Member) -> None:
        """Remove a user. With the last one the storage is closed, if it was opened here."""
        self._members.discard(member)
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._members:
            return
        await self._traffic.drain()
        if self._members:  # joined meanwhile
            return
        self._traffic.halt()
        if self._opened_here:
            self._opened_here = False
            self._closing = asyncio.ensure_future(self.storage.close())
            self._closing.add_done_callback(self._closing_done)
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def enter_loop(self) -> None:
        """Make the storage belong to the running event loop.

        Raises:
            SessionError: another event loop is using the storage.
        """
        loop = asyncio.get_running_loop()
        if loop is self.loop and not self._inherited:
            return
        if self.loop is not None and self.loop.is_running() and not self._inherited:
            raise SessionError(
                "its manager is in use in another event loop, which is still running; make a manager of its own for "
                "each event loop, or call this one from its own loop with asyncio.run_coroutine_threadsafe()"
            )
        if self.loop is not None or self._inherited:
            self._leave_loop()
        self.loop = loop

    def _leave_loop(self) -> None:
        members, self._members = self._members, set()
        for member in members:
            member.leave_loop()
        self._traffic.forget()
        self._opening = self._closing = None
        self._opened_here = False
        self.storage.forget(inherited=self._inherited)
        self._inherited = False

    def _forked(self) -> None:
        self._inherited = self._inherited or self.loop is not None or self.storage.is_open
        for member in self._members:
            member.leave_loop()

    def _opening_done(self, opening: asyncio.Future[None]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # raised by those who wait; retrieved here in case none does

    def _closing_done(self, closing: asyncio.Future[None]) -> None:
        self._closing = None


_alive: WeakSet[Lifecycle] = WeakSet()


def _after_fork() -> None:
    for lifecycle in list(_alive):
        lifecycle._forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)
