"""A session that is not read before somebody asks for it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Generic, TypeVar, cast

from chatsession.errors import SessionClosedError
from chatsession.unit_of_work.session import Session

T = TypeVar("T")

_NOTHING = object()


class LazySession(Generic[T]):
    """What `ctx.session` is under a lazy middleware: `await ctx.session` gives the value.

    The first `await` locks and loads; each further one gives the very same object, without a second read. An
    assignment needs no read before it, and a read that is under way is discarded by it (rule 3).
    """

    __slots__ = ("_assigned", "_closed", "_loading", "_open", "_session")

    def __init__(self, open_: Callable[[], Session[T]]) -> None:
        self._open = open_
        self._session: Session[T] | None = None
        self._loading: asyncio.Future[None] | None = None
        self._assigned: object = _NOTHING
        self._closed = False

    def __await__(self) -> Generator[object, None, T]:
        return self._get().__await__()

    def __getattr__(self, name: str) -> object:
        raise AttributeError(
            f"the session is lazy: (await ctx.session).{name} is what you want, not ctx.session.{name}"
        )

    @property
    def data(self) -> LazySession[T]:
        """The awaitable itself; assign a value, or an awaitable of one, to replace, `None` to delete."""
        if self._closed:
            raise self._misused()
        return self

    @data.setter
    def data(self, value: T | Awaitable[T] | None) -> None:
        if self._closed:
            raise self._misused()
        if self._session is not None and not inspect.isawaitable(value):
            self._session.data = cast("T | None", value)
            self._assigned = _NOTHING
        else:
            self._assigned = value

    async def save(self) -> None:
        """As `Session.save`; does nothing if the session was never asked for."""
        if (session := await self._settled()) is not None:
            await session.save()

    async def release(self) -> None:
        """As `Session.release`; does nothing if the session was never asked for."""
        if (session := await self._settled()) is not None:
            await session.release()

    async def _get(self) -> T:
        while not self._closed:
            if self._assigned is not _NOTHING:
                return cast("T", await self._assigned_value())
            if self._session is not None:
                return self._session.data
            if self._loading is not None:
                await asyncio.wait([self._loading])
            else:
                await self._load()
        raise self._misused()

    async def _load(self) -> Session[T]:
        self._loading = asyncio.get_running_loop().create_future()
        try:
            session = self._open()
            await session._begin()
            if self._closed:  # the update ended while a task that it left running was loading
                await session._abandon()
                raise self._misused()
            self._session = session
            return session
        finally:
            self._loading.set_result(None)
            self._loading = None

    async def _assigned_value(self) -> T | None:
        assigned = self._assigned
        if inspect.isawaitable(assigned):
            # Awaited once, however many ask: some awaitables cannot be awaited again.
            shared = asyncio.ensure_future(cast("Awaitable[T]", assigned))
            if self._assigned is assigned:
                self._assigned = shared
            value = await shared
            if self._assigned is shared:
                self._assigned = value
            return value
        return cast("T | None", assigned)

    async def _settled(self) -> Session[T] | None:
        """The session, with everything assigned to it in it; `None` if nobody asked for it."""
        if self._closed:
            raise self._misused()
        while self._loading is not None:
            await asyncio.wait([self._loading])
        while self._assigned is not _NOTHING:
            value = await self._assigned_value()
            session = self._session or await self._load()
            if not inspect.isawaitable(self._assigned):
                session.data = value
                self._assigned = _NOTHING
        return self._session

    async def _finish(self) -> Session[T] | None:
        """The update is done: give the session, if one was opened, for the caller to end."""
        try:
            return await self._settled()
        except BaseException:
            if self._session is not None:
                await self._session._abandon()
            raise
        finally:
            self._closed = True

    async def _abandon(self) -> None:
        self._close()
        while self._loading is not None:
            await asyncio.wait([self._loading])
        if self._session is not None:
            await self._session._abandon()

    def _close(self) -> Session[T] | None:
        """Nobody may use it any more: give the session, if one was opened, for the caller to end."""
        self._closed = True
        assigned = self._assigned
        if asyncio.isfuture(assigned):
            assigned.cancel()
        elif inspect.iscoroutine(assigned):
            assigned.close()
        return self._session

    def _misused(self) -> SessionClosedError:
        return SessionClosedError(
            "ctx.session is used after its update was done, so that a change would be lost; "
            "await what you start, or use sessions.open()"
        )
