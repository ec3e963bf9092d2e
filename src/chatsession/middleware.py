"""Middlewares for any `(ctx, next)` chain: strict, lazy, and with several sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from chatsession.errors import SessionKeyError
from chatsession.flavors import Binding, Holder
from chatsession.unit_of_work.group import Unit, abort_all, all_redelivered, begin_all, commit_all
from chatsession.unit_of_work.unit import UnitOfWork
from chatsession.unit_of_work.units import Units

Next: TypeAlias = Callable[[], Awaitable[object]]
"""The rest of the chain."""


class Manager(Protocol):
    """The part of `SessionManager` that a middleware uses."""

    @property
    def units(self) -> Units[Any]:
        """The factory of its units of work."""
        ...

    async def start(self) -> None:
        """Connect."""
        ...

    async def aclose(self) -> None:
        """Wait for open sessions, and disconnect."""
        ...


M = TypeVar("M", bound=Manager)


class _Middleware:
    """Base of the middlewares: owns managers, and closes them."""

    def __init__(self, managers: Iterable[Manager]) -> None:
        self._managers = list(managers)

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


class _OneSession(_Middleware, Generic[M]):
    """Base of the middlewares with one session, of one manager."""

    def __init__(self, manager: M) -> None:
        super().__init__([manager])
        self.manager: M = manager
        self._units = manager.units
        self._binding = Binding(manager.units.name)


class StrictMiddleware(_OneSession[M]):
    """Loads the session before `next()` and commits it afterwards; made by `session` or `SessionManager.middleware`."""

    async def __call__(self, ctx: Any, next: Next) -> None:  # noqa: A002 - the field's name for it
        units = self._units
        key = units.key(ctx)
        if not isinstance(key, str):
            key = None if key is None else await key
            if key is None:
                self._binding.bind(ctx, NoSession(units.missing()))
                await next()
                return
        unit = units.unit(key, ctx)
        self._binding.bind(ctx, unit)
        await unit.begin()
        if unit.redelivered:
            await unit.commit()
            return
        try:
            await next()
        except BaseException:
            await unit.abort()
            raise
        await unit.commit()


class LazyMiddleware(_OneSession[M]):
    """Loads the session on first access; made by `lazy_session` or `SessionManager.lazy_middleware`."""

    async def __call__(self, ctx: Any, next: Next) -> None:  # noqa: A002 - the field's name for it
        key = await self._units.key_of(ctx)
        if key is None:
            self._binding.bind(ctx, NoSession(self._units.missing()))
            await next()
            return
        lazy = self._units.lazy_unit(key, ctx)
        self._binding.bind(ctx, lazy)
        try:
            if not self._units.runtime.deduplicate or not (await lazy.load()).redelivered:
                await next()
        except BaseException:
            await lazy.abort()
            raise
        await lazy.commit()


class MultiMiddleware(_Middleware):
    """Several sessions under one attribute; made by `multi_session`."""

    def __init__(self, fragments: Mapping[str, Manager], *, lazy: bool) -> None:
        super().__init__(fragments.values())
        self.fragments: dict[str, Manager] = dict(fragments)
        self._binding = Binding("session")
        self._open = self._open_lazily if lazy else self._open_strictly

    async def __call__(self, ctx: Any, next: Next) -> None:  # noqa: A002 - the field's name for it
        keys = {name: await manager.units.key_of(ctx) for name, manager in self.fragments.items()}
        units: dict[str, Unit] = {}
        try:
            if not all_redelivered(await self._open(ctx, keys, units)):
                await next()
        except BaseException:
            await abort_all(list(units.values()))
            raise
        await commit_all(list(units.values()))

    async def _open_strictly(
        self, ctx: object, keys: dict[str, str | None], units: dict[str, Unit]
    ) -> list[UnitOfWork[Any]]:
        opened = {name: self.fragments[name].units.unit(key, ctx) for name, key in keys.items() if key is not None}
        units.update(opened)
        self._bind(ctx, units)
        await begin_all(list(opened.values()))
        return list(opened.values())

    async def _open_lazily(
        self, ctx: object, keys: dict[str, str | None], units: dict[str, Unit]
    ) -> list[UnitOfWork[Any]]:
        """Load only the fragments that remember updates, in the order in which sessions are always locked."""
        lazies = {name: self.fragments[name].units.lazy_unit(key, ctx) for name, key in keys.items() if key is not None}
        for lazy in lazies.values():
            lazy.beside = lambda: [each.opened for each in lazies.values()]
        units.update(lazies)
        self._bind(ctx, units)
        remembering = [name for name in lazies if self.fragments[name].units.runtime.deduplicate]
        remembering.sort(key=lambda name: (self.fragments[name].units.runtime.coordinator.lock_order, keys[name] or ""))
        return [await lazies[name].load() for name in remembering]

    def _bind(self, ctx: object, units: Mapping[str, Unit]) -> None:
        self._binding.bind(
            ctx, _AllFragments({name: units.get(name) or self._missing(name) for name in self.fragments})
        )

    def _missing(self, name: str) -> NoSession:
        return NoSession(self.fragments[name].units.missing())


class MultiSession:
    """`ctx.session` with `multi_session`: one attribute for each fragment."""

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
    """The holder behind a `ctx.session` that is a `MultiSession`."""

    def __init__(self, fragments: dict[str, Holder]) -> None:
        self._fragments = fragments
        self._session = MultiSession(fragments)

    @property
    def data(self) -> MultiSession:
        """The fragments; assign `None` to delete all of them."""
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
        """Commit all fragments now, and keep them open."""
        for holder in self._fragments.values():
            await holder.save()

    async def release(self) -> None:
        """Commit all fragments now, and let the next updates of their keys run."""
        for holder in self._fragments.values():
            await holder.release()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something once all fragments are committed; stored with the first that can store it."""
        holders = [holder for holder in self._fragments.values() if not isinstance(holder, NoSession)]
        holder = next(filter(_remembers, holders), None) or next(iter(holders or self._fragments.values()))
        holder.after_commit(action, *args, **kwargs)


class NoSession:
    """The holder behind a `ctx.session` without a key: every use raises an error that says why there is none."""

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

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Raises: nothing will be committed, so nothing would be sent."""
        raise self._error


def _remembers(holder: Any) -> bool:
    unit: UnitOfWork[Any] | None = getattr(holder, "opened", holder)  # a lazy session has a unit of work once opened
    return unit is not None and unit.update_id is not None
