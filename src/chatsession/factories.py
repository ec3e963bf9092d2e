"""`session`, `lazy_session` and `multi_session`: middlewares made of options."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, Unpack

from chatsession.manager import SessionManager, check_separate
from chatsession.middleware import LazyMiddleware, MultiMiddleware, StrictMiddleware
from chatsession.options import SessionKeywords, SessionOptions
from chatsession.storages import Storage, open_storage

T = TypeVar("T")


def session(
    initial: Callable[[], T] | None = None,
    *,
    type: builtins.type[T] | None = None,  # noqa: A002 - the contract's name
    **options: Unpack[SessionKeywords[T]],
) -> StrictMiddleware[SessionManager[T]]:
    """Make a middleware that loads the session before the rest of the chain runs and stores it afterwards.

    The context class inherits from `SessionFlavor`. To close the storage, use the middleware by `async with`, or
    call its `aclose`.

    Args:
        initial: makes the value of a session that is not stored: a class, or a function without parameters.
        type: what stored data must fit; inferred from `initial` where possible.
        options: all other options, see `SessionOptions`.

    Returns:
        An async callable `(ctx, next)`.

    Examples:
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
) -> LazyMiddleware[SessionManager[T]]:
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

    Examples:
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
    check_separate(managers.items())
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
