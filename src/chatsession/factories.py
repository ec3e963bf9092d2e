"""`session`, `lazy_session` and `multi_session`: middlewares made of options."""

from __future__ import annotations

import builtins
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

    The context class inherits from `SessionFlavor`. To close the storage, use the middleware by `async with`, or
    call its `aclose`.

    Args:
        initial: makes the value of a session that is not stored; a class, or a function without parameters. Without
            it such a session is `None`.
        type: what stored data must fit; needed only when `initial` is neither a class nor has a return annotation.
        storage: a `Storage`, a `StorageAdapter` of your own, or a URL for `open_storage`; without it sessions live
            in memory and end with the process, which one log line says at start.
        get_session_key: from the context of an update to the key of its session; may be async.
        prefix: is put before every key.
        ttl: seconds (or a `timedelta`) after the last access at which a session is forgotten.
        expiry: `"sliding"`: `ttl` counts from the last access; `"fixed"`: from when the session was first stored.
        migrations: brings data of older versions of your bot up to date: functions from old data to new, by version,
            as in `{1: f, 2: g, 10.1: h}` (see `chatsession.serialization.migrations.Migrations`).
        concurrency: `"exclusive"`: updates of one key run one after another; `"optimistic"`: they run in
            parallel, and the one that commits second gets a `SessionConflictError`; `"last-write-wins"`: no
            protection at all.
        lock_timeout: seconds for which a key may make no progress, however long its queue is; `None`: wait for ever.
        lock_lease: seconds after which the key of a process that died is free again.
        max_size: bytes that an encoded session may have at most.
        codec: how values become bytes; without it, JSON.
        encryption_keys: encrypt what is stored; the newest key first, older ones after it to read what they encrypted.
            Each is 32 bytes or their base64, see `generate_encryption_key`.
        allow_unencrypted: read what is not encrypted although there are `encryption_keys`, while old data is changed.
        compression: bytes above which what is stored is compressed (Zstandard); `None`: never.
        deduplicate: so many updates are remembered with each session, and do not run their handler when Telegram
            delivers them again; 0: none. A lazy session is then loaded before its handler.
        merge: makes one session of two when a group that became a supergroup had one under either id: called with
            the old chat's data and the new one's. Without it the new one's stays, and the old one's is set aside.
        on_decode_error: what to do with stored data that does not fit the type: `"raise"` a `SessionDecodeError`;
            `"quarantine"`: set it aside under another key and start afresh; `"reset"`: start afresh.
        observe: called with a `SessionEvent` when a session has ended, for metrics, traces and logs; see
            `chatsession.telemetry` for OpenTelemetry, and `log_sessions`.
        name: under which name sessions are given to handlers.

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
    return StrictMiddleware(
        SessionManager.from_options(
            SessionOptions(
                initial=initial,
                type=type,
                storage=storage,
                get_session_key=get_session_key,
                prefix=prefix,
                ttl=ttl,
                expiry=expiry,
                migrations=migrations,
                concurrency=concurrency,
                lock_timeout=lock_timeout,
                lock_lease=lock_lease,
                max_size=max_size,
                codec=codec,
                encryption_keys=encryption_keys,
                allow_unencrypted=allow_unencrypted,
                compression=compression,
                deduplicate=deduplicate,
                merge=merge,
                on_decode_error=on_decode_error,
                observe=observe,
                name=name,
            )
        )
    )


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
    """Make a middleware that reads nothing until a handler asks: `await ctx.session`.

    The context class inherits from `LazySessionFlavor`. Arguments and closing as with `session`.
    """
    return LazyMiddleware(
        SessionManager.from_options(
            SessionOptions(
                initial=initial,
                type=type,
                storage=storage,
                get_session_key=get_session_key,
                prefix=prefix,
                ttl=ttl,
                expiry=expiry,
                migrations=migrations,
                concurrency=concurrency,
                lock_timeout=lock_timeout,
                lock_lease=lock_lease,
                max_size=max_size,
                codec=codec,
                encryption_keys=encryption_keys,
                allow_unencrypted=allow_unencrypted,
                compression=compression,
                deduplicate=deduplicate,
                merge=merge,
                on_decode_error=on_decode_error,
                observe=observe,
                name=name,
            )
        )
    )


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
