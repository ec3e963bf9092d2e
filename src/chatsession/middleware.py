"""`session`, `lazy_session` and `multi_session`: sessions for any `(ctx, next)` middleware chain."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, Self, TypeAlias, TypeVar, Unpack

from chatsession._apart import check_apart
from chatsession.errors import SessionKeyError
from chatsession.flavors import Binding, Holder
from chatsession.keys import missing
from chatsession.manager import SessionManager
from chatsession.options import SessionKeywords, SessionOptions
from chatsession.storages import Storage, open_storage
from chatsession.unit_of_work.group import abandon_all, begin_all, finish_all
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.session import Session

T = TypeVar("T")

Next: TypeAlias = Callable[[], Awaitable[object]]
"""The rest of the chain."""


class _Middleware:
    """What the middlewares have in common: they own managers, and close them."""

    def __init__(self, managers: Sequence[SessionManager[Any]]) -> None:
        self._managers = managers

    async def aclose(self) -> None:
        """Wait for open sessions, and disconnect from the storages."""
        for manager in self._managers:
            await manager.aclose()

    async def __aenter__(self) -> Self:
        for manager in self._managers:
            await manager.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class StrictMiddleware(_Middleware, Generic[T]):
    """Loads before `next()`, commits after it; made by `session` and `SessionManager.middleware`."""

    def __init__(self, manager: SessionManager[T]) -> None:
        super().__init__([manager])
        self.manager = manager
        self._binding = Binding(manager.options.name)

    async def __call__(self, ctx: Any, next: Next) -> None:  # noqa: A002 - the field's name for it
        manager = self.manager
        key = manager._key_at_once(ctx)
        if not isinstance(key, str):
            key = None if key is None else await key
            if key is None:
                self._binding.bind(ctx, NoSession(missing(manager.options.get_session_key)))
                await next()
                return
        session = manager._session(key, ctx)
        self._binding.bind(ctx, session)
        await session._begin()
        if session._redelivered:
            await session._finish()
            return
        try:
            await next()
        except BaseException:
            await session._abandon()
            raise
        await session._finish()


class LazyMiddleware(_Middleware, Generic[T]):
    """Loads on first access; made by `lazy_session` and `SessionManager.lazy_middleware`."""

    def __init__(self, manager: SessionManager[T]) -> None:
        super().__init__([manager])
        self.manager = manager
        self._binding = Binding(manager.options.name)

    async def __call__(self, ctx: Any, next: Next) -> None:  # noqa: A002 - the field's name for it
        key = await self.manager.key_of(ctx)
        if key is None:
            self._binding.bind(ctx, NoSession(missing(self.manager.options.get_session_key)))
            await next()
            return
        lazy = LazySession(lambda: self.manager._session(key, ctx))
        self._binding.bind(ctx, lazy)
        try:
            if not self.manager._plan.deduplicate or not (await lazy._load())._redelivered:
                await next()
        except BaseException:
            await lazy._abandon()
            raise
        if (session := await lazy._finish()) is not None:
            await session._finish()


class MultiMiddleware(_Middleware):
    """Several sessions under one attribute; made by `multi_session`."""

    def __init__(self, fragments: dict[str, SessionManager[Any]], *, lazy: bool) -> None:
        super().__init__(list(fragments.values()))
        self.fragments = fragments
        self._binding = Binding("session")
        self._run = self._run_lazily if lazy else self._run_strictly

    async def __call__(self, ctx: Any, next: Next) -> None:  # noqa: A002 - the field's name for it
        keys = {name: await manager.key_of(ctx) for name, manager in self.fragments.items()}
        await self._run(ctx, next, keys)

    async def _run_strictly(self, ctx: Any, next: Next, keys: dict[str, str | None]) -> None:  # noqa: A002
        sessions = {name: self.fragments[name]._session(key, ctx) for name, key in keys.items() if key is not None}
        self._binding.bind(ctx, _AllFragments({name: sessions.get(name) or self._missing(name) for name in keys}))
        opened = list(sessions.values())
        await begin_all(opened)
        try:
            if not _all_redelivered(opened):
                await next()
        except BaseException:
            await abandon_all(opened)
            raise
        await finish_all(opened)

    async def _run_lazily(self, ctx: Any, next: Next, keys: dict[str, str | None]) -> None:  # noqa: A002
        lazies = {name: self._lazy(name, key, ctx) for name, key in keys.items() if key is not None}
        self._binding.bind(ctx, _AllFragments({name: lazies.get(name) or self._missing(name) for name in keys}))
        try:
            if not _all_redelivered(await self._load_remembering(lazies, keys)):
                await next()
            for lazy in lazies.values():
                await lazy._settled()
        except BaseException:
            await abandon_all(_closed(lazies.values()))
            raise
        await finish_all(_closed(lazies.values()))

    def _lazy(self, name: str, key: str, ctx: object) -> LazySession[Any]:
        return LazySession(lambda: self.fragments[name]._session(key, ctx))

    async def _load_remembering(
        self, lazies: dict[str, LazySession[Any]], keys: dict[str, str | None]
    ) -> list[Session[Any]]:
        """Load the fragments that know their updates; in one order, like all who open several."""
        remembering = [name for name in lazies if self.fragments[name]._plan.deduplicate]
        remembering.sort(key=lambda name: (self.fragments[name]._plan.coordinator.number, keys[name] or ""))
        return [await lazies[name]._load() for name in remembering]

    def _missing(self, name: str) -> NoSession:
        return NoSession(missing(self.fragments[name].options.get_session_key))


def _all_redelivered(sessions: Iterable[Session[Any]]) -> bool:
    """Have all that know their updates seen this one? If only some have, the others still need the handler."""
    seen = [session._redelivered for session in sessions if session._update is not None]
    return bool(seen) and all(seen)


def _closed(lazies: Iterable[LazySession[Any]]) -> list[Session[Any]]:
    """Close all, and give the sessions that were opened."""
    return [session for lazy in lazies if (session := lazy._close()) is not None]


class MultiSession:
    """`ctx.session` under `multi_session`: one attribute for each fragment, and nothing else."""

    def __init__(self, fragments: dict[str, Holder]) -> None:
        object.__setattr__(self, _FRAGMENTS, fragments)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            return object.__getattribute__(self, name)
        return _fragment(self, name).data

    def __setattr__(self, name: str, value: object) -> None:
        _fragment(self, name).data = value


_FRAGMENTS = "__fragments__"


def _fragment(session: MultiSession, name: str) -> Holder:
    fragments: dict[str, Holder] = object.__getattribute__(session, _FRAGMENTS)
    try:
        return fragments[name]
    except KeyError:
        raise AttributeError(f"there is no session {name!r}; there are {', '.join(fragments)}") from None


class _AllFragments:
    """Stands behind the attribute that holds a `MultiSession`."""

    def __init__(self, fragments: dict[str, Holder]) -> None:
        self._fragments = fragments
        self._session = MultiSession(fragments)

    @property
    def data(self) -> MultiSession:
        """The fragments; assign `None` to delete them all (rule 9)."""
        return self._session

    @data.setter
    def data(self, value: None) -> None:
        if value is not None:
            raise TypeError(
                "assign to the fragments, as in ctx.session.cart = …; only None can be assigned to all of them"
            )
        for holder in self._fragments.values():
            if not isinstance(holder, NoSession):
                holder.data = None

    async def save(self) -> None:
        """Commit all fragments now, and go on."""
        for holder in self._fragments.values():
            await holder.save()

    async def release(self) -> None:
        """Commit all fragments now, and let the next updates of their keys run."""
        for holder in self._fragments.values():
            await holder.release()


class NoSession:
    """Stands behind the attribute where the update has no key: every use tells why (rule 6)."""

    def __init__(self, error: SessionKeyError) -> None:
        self._error = error

    @property
    def data(self) -> object:
        raise self._error

    @data.setter
    def data(self, value: object) -> None:
        raise self._error

    async def save(self) -> None:
        """There is nothing to commit."""

    async def release(self) -> None:
        """There is nothing to commit."""


def session(
    initial: Callable[[], T] | None = None,
    *,
    type: builtins.type[T] | None = None,  # noqa: A002 - the contract's name
    **options: Unpack[SessionKeywords[T]],
) -> StrictMiddleware[T]:
    """Make a middleware that loads the session before the rest of the chain runs and stores it afterwards.

    The context class inherits from `SessionFlavor`. To close the storage, use the middleware by `async with`, or
    call its `aclose`.

    Args:
        initial: makes the value of a session that is not stored: a class, or a function without parameters.
        type: what stored data must fit; inferred from `initial` where possible.
        options: all other options, see `SessionOptions`.

    Returns:
        An async callable `(ctx, next)`.

    Example:
        >>> import asyncio
        >>> from chatsession import SessionFlavor, session
        >>> class Context(SessionFlavor[int]):
        ...     chat_id = 1
        >>> counting = session(int)
        >>> async def handle() -> None:
        ...     ctx = Context()
        ...     async def handler() -> None:
        ...         ctx.session += 1
        ...         print(ctx.session)
        ...     await counting(ctx, handler)
        >>> asyncio.run(handle())
        1
    """
    return StrictMiddleware(SessionManager.from_options(SessionOptions(initial=initial, type=type, **options)))


def lazy_session(
    initial: Callable[[], T] | None = None,
    *,
    type: builtins.type[T] | None = None,  # noqa: A002 - the contract's name
    **options: Unpack[SessionKeywords[T]],
) -> LazyMiddleware[T]:
    """Make a middleware that reads nothing until a handler asks: `await ctx.session`.

    The context class inherits from `LazySessionFlavor`. Arguments and closing as with `session`.
    """
    return LazyMiddleware(SessionManager.from_options(SessionOptions(initial=initial, type=type, **options)))


def multi_session(
    lazy: bool = False,
    **fragments: SessionOptions[Any] | SessionManager[Any],
) -> MultiMiddleware:
    """Make a middleware for several sessions, `ctx.session.<name>` each, with keys, storages and options of their own.

    They are locked in one order and loaded in one round trip where they share a storage. `ctx.session = None`
    deletes all of them.

    Args:
        lazy: read each only when it is asked for: `await ctx.session.<name>`.
        fragments: the sessions by name.

    Raises:
        ValueError: two fragments would have the same keys in the same storage, and need prefixes.

    Example:
        >>> from chatsession import MemoryStorage, SessionOptions, multi_session, per_user
        >>> storage = MemoryStorage()
        >>> sessions = multi_session(
        ...     cart=SessionOptions(initial=list[str], storage=storage, prefix="cart:", get_session_key=per_user),
        ...     visits=SessionOptions(initial=int, storage=storage, prefix="visits:"),
        ... )
    """
    if not fragments:
        raise TypeError("multi_session needs at least one fragment, as in multi_session(cart=SessionOptions(…))")
    storages: dict[str, Storage] = {}
    managers = {name: _manager_of(given, storages) for name, given in fragments.items()}
    check_apart(managers.items())
    return MultiMiddleware(managers, lazy=lazy)


def _manager_of(given: SessionOptions[Any] | SessionManager[Any], storages: dict[str, Storage]) -> SessionManager[Any]:
    if isinstance(given, SessionManager):
        return given
    url = given.storage
    if not isinstance(url, str):
        return SessionManager.from_options(given)
    storage = storages.get(url) or open_storage(url)
    if storage.shared:  # then all who name this URL mean the same, and one object serves them
        storages[url] = storage
    return SessionManager.from_options(replace(given, storage=storage))
