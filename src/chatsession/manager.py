"""`SessionManager`: one kind of session, with its options and its storage."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

from chatsession.actions import ActionFunction
from chatsession.errors import SessionConflictError, SessionKeyError
from chatsession.keys import GetSessionKey, checked, per_chat
from chatsession.middleware import LazyMiddleware, StrictMiddleware
from chatsession.observing import SessionEvent
from chatsession.options import Concurrency, Expiry, OnDecodeError, SessionOptions
from chatsession.serialization.codec import Codec
from chatsession.serialization.migrations import Migration
from chatsession.storages import Storage, open_storage
from chatsession.storages.adapter import StorageAdapter, adapted
from chatsession.storages.enhanced import enhance_storage
from chatsession.storages.memory import MemoryStorage
from chatsession.unit_of_work.async_only import AsyncOnly
from chatsession.unit_of_work.group import abort_all, begin_all, commit_all
from chatsession.unit_of_work.move import follow, move
from chatsession.unit_of_work.rewrite import RewriteReport, rewrite_all
from chatsession.unit_of_work.runtime import Runtime
from chatsession.unit_of_work.session import Session
from chatsession.unit_of_work.unit import UnitOfWork
from chatsession.unit_of_work.units import Units

T = TypeVar("T")
V = TypeVar("V")
F = TypeVar("F", bound=ActionFunction)

_log = logging.getLogger("chatsession")

_PAGE = 500
UPDATE_TRIES = 50
"""How often `update` starts over when another commit was faster."""


class SessionManager(AsyncOnly, Generic[T]):
    """One kind of session: how its values are made, where they are kept, and how they are protected.

    It connects when it is first used and disconnects at `aclose`; `async with` does both. All its methods may be used
    concurrently, from one event loop.

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

    Raises:
        TypeError: values of this type cannot be stored.
        ValueError: an option has an invalid value.
        StorageError: the storage's URL is wrong.

    Examples:
        >>> import asyncio
        >>> from chatsession import SessionManager
        >>> async def main() -> int:
        ...     async with SessionManager(int, storage="memory:") as counters:
        ...         async with counters.open("424242") as s:
        ...             s.data += 1
        ...         return await counters.update("424242", lambda count: count + 1)
        >>> asyncio.run(main())
        2
    """

    @overload
    def __init__(
        self,
        initial: Callable[[], T],
        *,
        type: builtins.type[T] | None = None,
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
    ) -> None: ...
    @overload
    def __init__(
        self: SessionManager[V | None],
        initial: None = None,
        *,
        type: builtins.type[V],
        storage: Storage | StorageAdapter[V] | str | None = None,
        get_session_key: GetSessionKey = per_chat,
        prefix: str = "",
        ttl: float | timedelta | None = None,
        expiry: Expiry = "sliding",
        migrations: Mapping[float, Migration] | None = None,
        concurrency: Concurrency = "exclusive",
        lock_timeout: float | None = 60.0,
        lock_lease: float = 20.0,
        max_size: int = 16 * 1024 * 1024,
        codec: Codec[V] | None = None,
        encryption_keys: Sequence[str | bytes] = (),
        allow_unencrypted: bool = False,
        compression: int | None = None,
        deduplicate: int = 0,
        merge: Callable[[V, V], V] | None = None,
        on_decode_error: OnDecodeError = "raise",
        observe: Callable[[SessionEvent], object] | None = None,
        name: str = "session",
    ) -> None: ...
    @overload
    def __init__(
        self: SessionManager[Any],
        initial: None = None,
        *,
        type: None = None,
        storage: Storage | StorageAdapter[Any] | str | None = None,
        get_session_key: GetSessionKey = per_chat,
        prefix: str = "",
        ttl: float | timedelta | None = None,
        expiry: Expiry = "sliding",
        migrations: Mapping[float, Migration] | None = None,
        concurrency: Concurrency = "exclusive",
        lock_timeout: float | None = 60.0,
        lock_lease: float = 20.0,
        max_size: int = 16 * 1024 * 1024,
        codec: Codec[Any] | None = None,
        encryption_keys: Sequence[str | bytes] = (),
        allow_unencrypted: bool = False,
        compression: int | None = None,
        deduplicate: int = 0,
        merge: Callable[[Any, Any], Any] | None = None,
        on_decode_error: OnDecodeError = "raise",
        observe: Callable[[SessionEvent], object] | None = None,
        name: str = "session",
    ) -> None: ...
    def __init__(
        self,
        initial: Callable[[], T] | None = None,
        *,
        type: builtins.type[T] | None = None,  # noqa: A002 - the contract's name
        **options: Any,  # as the overloads say
    ) -> None:
        self._setup(SessionOptions(initial=initial, type=type, **options))

    @staticmethod
    def from_options(options: SessionOptions[V]) -> SessionManager[V]:
        """Make a manager from a `SessionOptions` object."""
        manager = cast("SessionManager[V]", SessionManager.__new__(SessionManager))
        manager._setup(options)
        return manager

    def _setup(self, options: SessionOptions[T]) -> None:
        self.options = options
        storage = options.storage
        if storage is None:
            storage = MemoryStorage()
            _log.warning(
                "sessions %r live in memory and are lost at restart; to keep them, pass storage='sqlite:///bot.db'",
                options.name,
            )
        elif isinstance(storage, str):
            storage = open_storage(storage)
        elif not isinstance(storage, Storage):
            if options.migrations is not None:
                storage = enhance_storage(storage, migrations=options.migrations)
            storage = adapted(storage)
        self.storage: Storage = storage
        self.runtime: Runtime[T] = Runtime(options, storage)
        self.units: Units[T] = Units(options, self.runtime)

    def __repr__(self) -> str:
        return f"<SessionManager {self.options.name!r} on {self.storage!r}>"

    def open(self, key: str | int) -> Session[T]:
        """Open one session from anywhere: a background task, a script, or the handler of another chat's update.

        It has the same guarantees as a session in a handler.

        Args:
            key: as `get_session_key` returns it, without the prefix.

        Returns:
            The session. `async with` waits for the key, loads the session, and commits it at the end of the block.

        Raises:
            SessionKeyError: the key is empty, of a wrong type or not valid Unicode.
        """
        return self._unit(key)

    def open_many(self, keys: Iterable[str | int]) -> SessionGroup[T]:
        """Open several sessions at once, without deadlocks: the keys are always locked in the same order.

        Each session is committed atomically by itself. If one of them cannot be encoded, none is written.

        Args:
            keys: the keys, each once.

        Returns:
            A group. `async with` opens the sessions and returns them in the order of the keys.
        """
        return SessionGroup([self._unit(key) for key in keys])

    async def update(self, key: str | int, function: Callable[[T], T | Awaitable[T | None] | None]) -> T:
        """Change a session atomically: read it, call the function, write the result; retry after a conflict.

        Args:
            key: the session's key.
            function: takes the data and returns the new data, or changes the data in place and returns `None`; may be
                async. After a conflict it is called again, with freshly loaded data.

        Returns:
            The data as it was stored.

        Raises:
            SessionConflictError: another commit was faster 50 times in a row.
        """
        if not callable(function):
            raise TypeError(f"update takes a function of the data, not a {type(function).__name__}; see put()")
        tries = 0
        while True:
            tries += 1
            try:
                async with self.open(key) as session:
                    result = function(session.data)
                    changed = cast("T | None", await result if inspect.isawaitable(result) else result)
                    if changed is not None:
                        session.data = changed
                    data = session.data
            except SessionConflictError:
                if tries == UPDATE_TRIES:
                    raise
                await asyncio.sleep(random.uniform(0, 0.001 * min(tries, 20)))
            else:
                return data

    async def get(self, key: str | int) -> T | None:
        """Read what the last commit stored, without waiting for a lock; `None` if there is no session.

        The value is a copy: changing it does not change the session.
        """
        full = self._full(key)
        runtime = self.runtime
        await runtime.enter_loop()
        runtime.active += 1
        try:
            return await self._look(full)
        finally:
            runtime.leave()

    async def _look(self, key: str) -> T | None:
        serializer = self.runtime.serializer
        record = await self.runtime.coordinator.read(key)
        if record is None:
            return None
        unpacked = serializer.unpack(key, record.value)
        if unpacked is None:
            return serializer.loads(key, record.value)
        if unpacked.moving_from is not None or unpacked.moved_to is not None:
            return await self._look(await follow(self.runtime, key, unpacked))
        return None if unpacked.empty else serializer.loads(key, unpacked.data)

    async def put(self, key: str | int, value: T) -> None:
        """Replace what is stored, whatever it is. Waits for the update that is running for the key.

        Raises:
            SessionEncodeError: the value cannot be stored; nothing was written.
        """
        async with self.open(key) as session:
            session.data = value

    async def delete(self, key: str | int) -> bool:
        """Delete a session. Waits for the update that is running for the key.

        Returns:
            Whether there was a session.
        """
        async with self.open(key) as session:
            existed = session.exists
            session.data = None
        return existed

    async def count(self) -> int:
        """The number of stored sessions. Reads all keys, in constant memory."""
        return sum([1 async for _ in self.keys()])

    async def keys(self) -> AsyncIterator[str]:
        """The keys of all stored sessions, without the prefix, in constant memory; for example for a broadcast.

        Sessions that are stored or deleted during the iteration may or may not be included.
        """
        prefix = self.runtime.prefix
        if self.runtime.serializer.pipeline is None:
            for key in (await self.storage.scan_keys(prefix, None, _PAGE))[0]:
                yield key[len(prefix) :]
            return
        async for key, _ in self.units.records():
            yield key[len(prefix) :]

    async def entries(self) -> AsyncIterator[tuple[str, T]]:
        """All stored sessions as pairs of key and data, without locks, in constant memory.

        Raises:
            SessionDecodeError: a session does not fit its type.
        """
        serializer, prefix = self.runtime.serializer, self.runtime.prefix
        async for key, record in self.units.records():
            unpacked = serializer.unpack(key, record.value)
            yield key[len(prefix) :], serializer.loads(key, record.value if unpacked is None else unpacked.data)

    async def move(self, old: str | int, new: str | int) -> None:
        """Move a session to another key for good: from then on, the old key leads to the new one.

        For a group that became a supergroup; the integrations do this on their own. The move is atomic and happens
        once, however often and in however many processes it is called. If both keys have a session, `merge` combines
        them; without it the session of the new key is kept and that of the old key is set aside.

        Args:
            old: the session's key, as in `open`.
            new: its new key.

        Raises:
            SessionError: `merge` failed, or one of the two cannot be read; nothing was moved.
        """
        await move(self.runtime, self._full(old), self._full(new))

    async def rewrite(
        self,
        *,
        dry_run: bool = False,
        resume: str | None = None,
        progress: Callable[[RewriteReport], object] | None = None,
    ) -> RewriteReport:
        """Store all sessions in their current form: migrated, and encrypted with the newest key.

        Safe while bots run: each session is locked for a moment. Sessions that are in this form already are not
        written, so an interrupted run can be repeated, or continued with `resume=report.cursor`. Expiry stays as it is.

        Args:
            dry_run: only count what would be rewritten and what would fail.
            resume: the `RewriteReport.cursor` at which an earlier run stopped.
            progress: called with the report after each page.

        Returns:
            How many sessions were examined and rewritten, how many failed, and why.
        """
        return await rewrite_all(self.runtime, dry_run=dry_run, resume=resume, progress=progress)

    @overload
    def action(self, function: F) -> F: ...
    @overload
    def action(self, *, name: str) -> Callable[[F], F]: ...
    def action(self, function: ActionFunction | None = None, *, name: str | None = None) -> object:
        """Register an async function, so that `ctx.after_commit` can store a call of it.

        Stored calls refer to it by name, also after a restart: pass `name=` to keep the old name of a renamed function.

        Args:
            function: called with the arguments that `after_commit` was given; they must be JSON.
            name: the name in stored calls; without it, the function's own.

        Raises:
            TypeError: the function is not async.
            ValueError: another function has this name.

        Examples:
            >>> sessions = SessionManager(dict[str, int], storage="memory:", deduplicate=20)
            >>> @sessions.action
            ... async def tell_the_kitchen(order: int) -> None: ...
            >>> def on_order(ctx) -> None:
            ...     ctx.after_commit(tell_the_kitchen, order=7)
        """
        functions = self.runtime.outgoing.functions

        def register(given: ActionFunction) -> ActionFunction:
            return functions.add(given, name)

        return register if function is None else register(function)

    def middleware(self) -> StrictMiddleware[Self]:
        """The middleware `(ctx, next)` that loads the session before the rest of the chain runs."""
        return StrictMiddleware(self)

    def lazy_middleware(self) -> LazyMiddleware[Self]:
        """The middleware `(ctx, next)` that loads the session when it is first used."""
        return LazyMiddleware(self)

    async def key_of(self, ctx: object, scope: str = "") -> str | None:
        """The stored key (with the prefix) of a context's session; `None` if it has none.

        Args:
            ctx: the argument of `get_session_key`.
            scope: put between the prefix and the key.

        Raises:
            SessionKeyError: `get_session_key` returned something that is not a key.
        """
        return await self.units.key_of(ctx, scope)

    async def start(self) -> None:
        """Connect now rather than at the first use. After `aclose`, connect again."""
        await self.runtime.start()

    async def aclose(self, timeout: float = 30.0) -> None:
        """Open no more sessions, wait for those that are open, and disconnect.

        A storage that was open before its managers is left open. May be called twice.

        Args:
            timeout: seconds to wait for open sessions; those still open afterwards cannot commit.
        """
        left = await self.runtime.stop(timeout)
        if left:
            _log.error("%d sessions were still open %g s after aclose(); their changes are lost", left, timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: builtins.type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _unit(self, key: str | int) -> UnitOfWork[T]:
        return self.units.unit(self._full(key))

    def _full(self, key: str | int) -> str:
        full = checked(key, self.runtime.prefix, None)
        if full is None:
            raise SessionKeyError("a session's key cannot be None; use the chat's or the user's id")
        return full


class SessionGroup(AsyncOnly, Generic[T]):
    """Several sessions that begin and end together; made by `SessionManager.open_many`."""

    def __init__(self, units: list[UnitOfWork[T]]) -> None:
        self._units = units

    async def __aenter__(self) -> list[Session[T]]:
        await begin_all(self._units)
        return list(self._units)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await commit_all(self._units)
        else:
            await abort_all(self._units)
