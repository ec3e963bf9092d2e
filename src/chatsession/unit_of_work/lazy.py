"""A session that is read when it is first used."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar, cast

from chatsession.errors import SessionClosedError, shown
from chatsession.unit_of_work.lending import begin_beside
from chatsession.unit_of_work.unit import UnitOfWork

T = TypeVar("T")

_log = logging.getLogger("chatsession")

_NOTHING = object()


class LazySession(Generic[T]):
    """The `ctx.session` of a lazy middleware: `await ctx.session` returns the value.

    The first `await` locks and loads the session; further ones return the same object without another read. An
    assignment needs no read before it, and discards a read that is under way.
    """

    __slots__ = ("_after", "_assigned", "_loading", "_open", "beside", "opened")

    def __init__(self, open_: Callable[[], UnitOfWork[T]]) -> None:
        self._open: Callable[[], UnitOfWork[T]] | None = open_
        """`None`: the update is done. It refers to the context, which refers to this: a cycle, unless it is dropped."""
        self.opened: UnitOfWork[T] | None = None
        """The session, once it has been used."""
        self.beside: Callable[[], Iterable[UnitOfWork[Any] | None]] | None = None
        """Gives the sessions of the update that are open; `None`: it has only this one."""
        self._loading: asyncio.Future[None] | None = None
        self._assigned: object = _NOTHING
        self._after: tuple[tuple[object, tuple[Any, ...], dict[str, Any]], ...] = ()

    def __await__(self) -> Generator[object, None, T]:
        return self._get().__await__()

    def __getattr__(self, name: str) -> object:
        raise AttributeError(
            f"the session is lazy: (await ctx.session).{name} is what you want, not ctx.session.{name}"
        )

    @property
    def data(self) -> LazySession[T]:
        """The awaitable itself. Assign a value, or an awaitable of one, to replace it; assign `None` to delete it."""
        if self._open is None:
            raise self._misused()
        return self

    @data.setter
    def data(self, value: T | Awaitable[T] | None) -> None:
        if self._open is None:
            raise self._misused()
        if self.opened is not None and not inspect.isawaitable(value):
            self.opened.data = cast("T | None", value)
            self._assigned = _NOTHING
        else:
            self._assigned = value

    async def save(self) -> None:
        """See `Session.save`; does nothing if the session was not used."""
        if (session := await self.settle()) is not None:
            await session.save()

    async def release(self) -> None:
        """See `Session.release`; does nothing if the session was not used."""
        if (session := await self.settle()) is not None:
            await session.release()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """See `UnitOfWork.after_commit`; a session that was not loaded is loaded at the end."""
        if self._open is None:
            raise self._misused()
        if self.opened is None:
            self._after = (*self._after, (action, args, kwargs))
        else:
            self.opened.after_commit(action, *args, **kwargs)

    async def _get(self) -> T:
        while self._open is not None:
            if self._assigned is not _NOTHING:
                return cast("T", await self._assigned_value())
            if self.opened is not None:
                return self.opened.data
            if self._loading is not None:
                await asyncio.wait([self._loading])
            else:
                await self.load()
        raise self._misused()

    async def load(self) -> UnitOfWork[T]:
        """Open the session and read it."""
        return await self._open_by(self._begin)

    def _begin(self, unit: UnitOfWork[T]) -> Awaitable[object]:
        return unit.begin() if self.beside is None else begin_beside(unit, self.beside())

    async def _open_by(self, begin: Callable[[UnitOfWork[T]], Awaitable[object]]) -> UnitOfWork[T]:
        if self._open is None:
            raise self._misused()
        session = self._open()
        self._loading = asyncio.get_running_loop().create_future()
        try:
            await begin(session)
            if self._open is None:  # the update ended while a task that it left running was loading
                await session.abort()
                raise self._misused()
            self.opened = session
            return session
        except asyncio.CancelledError:
            _log.warning("a handler was cancelled while it waited for session %s", shown(session.full_key))
            raise
        finally:
            self._loading.set_result(None)
            self._loading = None

    async def _assigned_value(self) -> T | None:
        assigned = self._assigned
        if inspect.isawaitable(assigned):
            # Awaited only once: some awaitables cannot be awaited again.
            shared = asyncio.ensure_future(cast("Awaitable[T]", assigned))
            if self._assigned is assigned:
                self._assigned = shared
            value = await shared
            if self._assigned is shared:
                self._assigned = value
            return value
        return cast("T | None", assigned)

    async def settle(self) -> UnitOfWork[T] | None:
        """Apply what was assigned. Returns the session; `None` if it was not used."""
        if self._open is None:
            raise self._misused()
        while self._loading is not None:
            await asyncio.wait([self._loading])
        while self._assigned is not _NOTHING:
            value = await self._assigned_value()
            session = self.opened or await self._open_for(value)
            if not inspect.isawaitable(self._assigned):
                session.data = value
                self._assigned = _NOTHING
        if self._after:
            session = self.opened or await self.load()
            waiting, self._after = self._after, ()
            for action, args, kwargs in waiting:
                session.after_commit(action, *args, **kwargs)
        return self.opened

    async def _open_for(self, value: T | None) -> UnitOfWork[T]:
        """Open the session for a value that replaces what is stored; read it only if that is needed."""

        def begin(unit: UnitOfWork[T]) -> Awaitable[object]:
            return unit.begin_unread() if value is not None and unit.runtime.writes_unread else self._begin(unit)

        return await self._open_by(begin)

    async def commit(self) -> None:
        """The handler returned: commit, if the session was used."""
        try:
            session = await self.settle()
        except BaseException:
            await self.abort()
            raise
        self._open = self.beside = None
        if session is not None:
            await session.commit()

    async def abort(self) -> None:
        """The handler failed: write nothing."""
        self.close()
        while self._loading is not None:
            await asyncio.wait([self._loading])
        if self.opened is not None:
            await self.opened.abort()

    def close(self) -> UnitOfWork[T] | None:
        """Refuse further use. Returns the session, if it was opened, for the caller to commit or abort."""
        self._open = self.beside = None
        assigned = self._assigned
        if asyncio.isfuture(assigned):
            assigned.cancel()
        elif inspect.iscoroutine(assigned):
            assigned.close()
        return self.opened

    def _misused(self) -> SessionClosedError:
        return SessionClosedError(
            "ctx.session is used after its update was done, so that a change would be lost; "
            "await what you start, or use sessions.open()"
        )
