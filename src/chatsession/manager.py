"""`SessionManager`: owns one kind of session, from its options to the life of its storage."""

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
"""How often `update` begins anew when somebody else was faster."""


class SessionManager(Generic[T]):
    """One kind of session: how its values are made, where they are kept, and how they are guarded.

    It connects when it is first used and disconnects at `aclose`, or does both by `async with`. All its methods may
    be used concurrently, from one event loop.

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

    Raises:
        TypeError: values of this type cannot be stored.
        ValueError: an option has a value that makes no sense.
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
        """Make a manager of options that are at hand as one object."""
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
        """Open one session, in an update or outside of any, as safely as there.

        Args:
            key: as `get_session_key` would give it, without the prefix.

        Returns:
            The session, to be entered by `async with`, which waits for the key and loads.

        Raises:
            SessionKeyError: the key cannot be one.
        """
        return self._unit(key)

    def open_many(self, keys: Iterable[str | int]) -> SessionGroup[T]:
        """Open several sessions at once; two callers with the same keys in any order never block each other for good.

        Each is committed atomically by itself. If one holds a value that cannot be stored, none is written.

        Args:
            keys: the keys, each once.

        Returns:
            To be entered by `async with`, which gives the sessions in the order of the keys.
        """
        return SessionGroup([self._unit(key) for key in keys])

    async def update(self, key: str | int, function: Callable[[T], T | Awaitable[T | None] | None]) -> T:
        """Change a session atomically: read, call the function, write; again if somebody else was faster.

        Args:
            key: the session's key.
            function: takes the data and returns the new data, or changes what it was given and returns `None`; may
                be async. It may run several times, each time with freshly loaded data.

        Returns:
            The data as it was stored.

        Raises:
            SessionConflictError: somebody else was faster 50 times in a row.
        """
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
        """Look at a session without waiting for anybody: what the last commit stored, or `None` if nothing is.

        The value is a copy; changing it changes nothing.
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
        if unpacked.moving_from is not None or (unpacked.empty and unpacked.moved_to is not None):
            return await self._look(await follow(self.runtime, key, unpacked))
        return None if unpacked.empty else serializer.loads(key, unpacked.data)

    async def put(self, key: str | int, value: T) -> None:
        """Store a value in the place of whatever is stored, after the update that is running for the key.

        Raises:
            SessionEncodeError: the value cannot be stored; nothing was written.
        """
        async with self.open(key) as session:
            session.data = value

    async def delete(self, key: str | int) -> bool:
        """Delete a session, after the update that is running for it.

        Returns:
            Whether there was one.
        """
        async with self.open(key) as session:
            existed = session.exists
            session.data = None
        return existed

    async def count(self) -> int:
        """How many sessions are stored; reads all keys, with constant memory."""
        return sum([1 async for _ in self.keys()])

    async def keys(self) -> AsyncIterator[str]:
        """All keys under which a session is stored, without the prefix, with constant memory; for broadcasts.

        Sessions that come or go meanwhile may or may not be among them.
        """
        prefix = self.runtime.prefix
        if self.runtime.serializer.pipeline is None:
            for key in (await self.storage.scan_keys(prefix, None, _PAGE))[0]:
                yield key[len(prefix) :]
            return
        async for key, _ in self.units.records():
            yield key[len(prefix) :]

    async def entries(self) -> AsyncIterator[tuple[str, T]]:
        """All stored sessions as key and data, without locks and with constant memory.

        Raises:
            SessionDecodeError: a session does not fit its type.
        """
        serializer, prefix = self.runtime.serializer, self.runtime.prefix
        async for key, record in self.units.records():
            unpacked = serializer.unpack(key, record.value)
            yield key[len(prefix) :], serializer.loads(key, record.value if unpacked is None else unpacked.data)

    async def move(self, old: str | int, new: str | int) -> None:
        """Move a session to another key, for good: whoever opens the old key finds it under the new one.

        For a group that became a supergroup; integrations do it by themselves. It happens atomically and once,
        however often, in whichever process and at whatever moment it is called. If both keys have a session, `merge`
        makes one of the two; without it the new one's stays and the old one's is set aside.

        Args:
            old: the key, as in `open`, under which the session is.
            new: the key that it gets.

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
        """Store all sessions in the form of today: migrated, and encrypted with the newest key.

        Safe while bots run: each session is locked for a moment. What is in that form already is not written, so an
        interrupted run may simply be made again, or go on with `resume=report.cursor`. Expiry is not touched.

        Args:
            dry_run: only count what would be done, and what would fail.
            resume: where an earlier run stopped, `RewriteReport.cursor`.
            progress: called with the report after each page.

        Returns:
            How many were looked at, rewritten, and could not be, with the reasons.
        """
        return await rewrite_all(self.runtime, dry_run=dry_run, resume=resume, progress=progress)

    @overload
    def action(self, function: F) -> F: ...
    @overload
    def action(self, *, name: str) -> Callable[[F], F]: ...
    def action(self, function: ActionFunction | None = None, *, name: str | None = None) -> object:
        """Register an async function, so that `ctx.after_commit` can store a call of it.

        It is found again by its name, after a restart too: a function that was renamed keeps the old name by `name=`.

        Args:
            function: is called with the arguments that `after_commit` was given, which must be JSON.
            name: under which calls are stored; without it, the function's own.

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
        """The strict middleware `(ctx, next)` over these sessions."""
        return StrictMiddleware(self)

    def lazy_middleware(self) -> LazyMiddleware[Self]:
        """The lazy middleware `(ctx, next)` over these sessions: nothing is read until it is asked for."""
        return LazyMiddleware(self)

    async def key_of(self, ctx: object, scope: str = "") -> str | None:
        """The stored key (with the prefix) of a context's session; `None` if it has none.

        Args:
            ctx: what `get_session_key` is given.
            scope: is put between the prefix and the key.

        Raises:
            SessionKeyError: `get_session_key` gave something that is no key.
        """
        return await self.units.key_of(ctx, scope)

    async def start(self) -> None:
        """Connect now rather than at the first use; also after `aclose`, to go on."""
        await self.runtime.start()

    async def aclose(self, timeout: float = 30.0) -> None:
        """Let no session begin any more, wait for those that are open, and disconnect.

        A storage that was open before its managers came is left open. May be called twice.

        Args:
            timeout: seconds to wait for open sessions; what is open then cannot commit any more.
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


class SessionGroup(Generic[T]):
    """Several sessions that open and end together; made by `SessionManager.open_many`."""

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
