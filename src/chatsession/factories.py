"""`session`, `lazy_session` and `multi_session`: middlewares made from options."""

from __future__ import annotations

import builtins
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from chatsession.keys import GetSessionKey, per_chat
from chatsession.manager import SessionManager
from chatsession.middleware import LazyMiddleware, MultiMiddleware, StrictMiddleware
from chatsession.observing import SessionEvent
from chatsession.options import Concurrency, Expiry, OnDecodeError, SessionOptions
from chatsession.separation import check_separate
from chatsession.serialization.codec import Codec
from chatsession.serialization.migrations import Migration
from chatsession.storages import Storage, open_storage
from chatsession.storages.adapter import StorageAdapter

T = TypeVar("T")


def session(
    initial: Callable[[], T] | None = None,
    *,
    type: builtins.type[T] | None = None,  # noqa: A002 - the contract's name
    storage: Storage | StorageAdapter[T] | str | None = None,
    get_session_key: GetSessionKey = per_chat,
    prefix: str = "",
    ttl: float | timedelta | None = None,
    expiry: Expiry = "sliding",
    migrations: Mapping[float, Migration] | None = None,
    concurrency: Concurrency = "exclusive",
    lock_timeout: float | None = 60.0,
    lock_lease: float = 20.0,
    max_size: int = 16 * 1024 * 1024,
    codec: Codec[T] | None = None,
    encryption_keys: Sequence[str | bytes] = (),
    allow_unencrypted: bool = False,
    compression: int | None = None,
    deduplicate: int = 0,
    merge: Callable[[T, T], T] | None = None,
    on_decode_error: OnDecodeError = "raise",
    observe: Callable[[SessionEvent], object] | None = None,
    name: str = "session",
) -> StrictMiddleware[SessionManager[T]]:
    """Make a middleware that loads the session before the rest of the chain runs and stores it afterwards.

    The context class must inherit from `SessionFlavor`. To close the storage, use the middleware in `async with`, or
    call its `aclose`.

    Args:
        initial: makes the value of a new session: a class, or a function without parameters. Without it, the value of a
            new session is `None`.
        type: the type that stored data must fit. Needed only when `initial` is neither a class nor has a return
            annotation.
        storage: where sessions are kept: a `Storage`, your own `StorageAdapter`, or a URL for `open_storage`. Without
            it, they are kept in memory and lost when the process ends; the log says so at start.
        get_session_key: returns the key of the session for the context of an update; may be async. `None` means that
            the update has no session.
        prefix: put before every key. Managers that share a storage need different prefixes.
        ttl: how long a session is kept, in seconds or as a `timedelta`; `None`: for ever. See `expiry`.
        expiry: `"sliding"`: `ttl` counts from the last access; `"fixed"`: from when the session was first stored.
        migrations: functions that convert the data of older versions of your bot, by version: `{1: f, 2: g, 10.1: h}`.
            Those above the stored version run in order; the next write stores the result.
        concurrency: `"exclusive"`: updates of one key run one after another, in all processes that share the storage;
            `"optimistic"`: they run in parallel, and the one that commits second gets a `SessionConflictError`;
            `"last-write-wins"`: they run in parallel, and the last commit overwrites the others.
        lock_timeout: seconds to wait while the queue of a key makes no progress, before `SessionLockTimeoutError`;
            `None`: for ever.
        lock_lease: seconds after which the lock of a dead process is free again. It is renewed while a handler runs.
        max_size: the largest size of an encoded session, in bytes. A larger one is refused with
            `SessionTooLargeError`.
        codec: converts values to bytes and back; without it, JSON.
        encryption_keys: the first key encrypts what is stored; the others only decrypt what they encrypted earlier.
            Each is 32 bytes or their base64; see `generate_encryption_key`.
        allow_unencrypted: with `encryption_keys`, also read sessions that are not encrypted yet.
        compression: compress encoded sessions of more than this many bytes (Zstandard); `None`: never.
        deduplicate: how many updates each session remembers. When Telegram delivers one of them again, its handler
            does not run again. 0: none. With it, a lazy session is loaded before its handler runs.
        merge: combines two sessions when a group becomes a supergroup and both ids have one; called with the value of
            the old id and that of the new one. Without it, the new id's session is kept and the old one is set aside.
        on_decode_error: what happens to stored data that does not fit the type. `"raise"`: a `SessionDecodeError`;
            `"quarantine"`: it is set aside under another key, and the session starts afresh; `"reset"`: it is
            dropped, and the session starts afresh.
        observe: called with a `SessionEvent` when a session ends, for metrics, traces and logs; see
            `chatsession.telemetry` for OpenTelemetry, and `log_sessions`.
        name: the context attribute or handler parameter that holds the session.

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
    options: SessionOptions[T] = SessionOptions(**locals())  # the parameters are the options
    return StrictMiddleware(SessionManager.from_options(options))


def lazy_session(
    initial: Callable[[], T] | None = None,
    *,
    type: builtins.type[T] | None = None,  # noqa: A002 - the contract's name
    storage: Storage | StorageAdapter[T] | str | None = None,
    get_session_key: GetSessionKey = per_chat,
    prefix: str = "",
    ttl: float | timedelta | None = None,
    expiry: Expiry = "sliding",
    migrations: Mapping[float, Migration] | None = None,
    concurrency: Concurrency = "exclusive",
    lock_timeout: float | None = 60.0,
    lock_lease: float = 20.0,
    max_size: int = 16 * 1024 * 1024,
    codec: Codec[T] | None = None,
    encryption_keys: Sequence[str | bytes] = (),
    allow_unencrypted: bool = False,
    compression: int | None = None,
    deduplicate: int = 0,
    merge: Callable[[T, T], T] | None = None,
    on_decode_error: OnDecodeError = "raise",
    observe: Callable[[SessionEvent], object] | None = None,
    name: str = "session",
) -> LazyMiddleware[SessionManager[T]]:
    """Make a middleware that loads the session when a handler first awaits it: `await ctx.session`.

    The context class must inherit from `LazySessionFlavor`. For arguments and closing, see `session`.
    """
    options: SessionOptions[T] = SessionOptions(**locals())  # the parameters are the options
    return LazyMiddleware(SessionManager.from_options(options))


def multi_session(
    lazy: bool = False,
    **fragments: SessionOptions[Any] | SessionManager[Any],
) -> MultiMiddleware:
    """Make a middleware for several sessions, `ctx.session.<name>`, each with its own keys, storage and options.

    They are always locked in the same order. Those that share a storage are loaded in one round trip.
    `ctx.session = None` deletes all of them.

    Args:
        lazy: load each session when it is first used: `await ctx.session.<name>`.
        fragments: the sessions by name.

    Raises:
        TypeError: there is no fragment, or one is neither options nor a manager.
        ValueError: two fragments would have the same keys in the same storage; give them different prefixes.

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
    for name, given in fragments.items():
        if not isinstance(given, (SessionOptions, SessionManager)):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
            raise TypeError(f"{name} takes a SessionOptions or a SessionManager, not {reprlib.repr(given)}")
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
    if storage.shared:  # one object then serves all fragments with this URL
        storages[url] = storage
    return SessionManager.from_options(replace(given, storage=storage))
