"""`SessionManager` without asyncio: the same options and names, for threads."""

from __future__ import annotations

import builtins
import inspect
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

from chatsession.errors import SessionClosedError, SessionConflictError
from chatsession.keys import GetSessionKey, per_chat
from chatsession.manager import UPDATE_TRIES
from chatsession.manager import SessionManager as AsyncSessionManager
from chatsession.observing import SessionEvent
from chatsession.options import Concurrency, Expiry, OnDecodeError, SessionOptions
from chatsession.serialization.codec import Codec
from chatsession.serialization.migrations import Migration
from chatsession.storages import Storage
from chatsession.storages.adapter import StorageAdapter
from chatsession.sync._calls import in_callers_thread
from chatsession.sync._session import Session, SessionGroup
from chatsession.sync.block import Block
from chatsession.sync.loop_thread import LoopThread, LoopUser, check_may_block, join_loop, leave_loop
from chatsession.unit_of_work.rewrite import RewriteReport

T = TypeVar("T")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., object])

_PAGE = 100
"""How many items of an iteration one call fetches."""


class SessionManager(Generic[T]):
    """One kind of session, for programs without asyncio: `chatsession.SessionManager` with `with` and no `await`.

    All its methods may be called in any thread. It shares storages with asynchronous programs, with the same
    guarantees: updates of one key run one after another, and those of different keys run in parallel. What several
    threads store at the same time is sent together. A thread that opens a key twice gets an error at once.

    It connects when it is first used and disconnects at `close`; `with` does both. A forked child (`multiprocessing`,
    gunicorn's `--preload`, Celery's prefork) connects again when it first uses the manager. All managers of a process
    share one event loop in a thread of the library. It ends with the last manager, or with the process. In a thread
    that runs an event loop itself, use `chatsession.SessionManager`.

    Migrations, `merge`, codecs and your own storages are called in the library's thread. They must return quickly and
    cannot use sessions. `initial`, `observe` and the function of `update` are called in your thread.

    Args:
        initial: makes the value of a new session: a class, or a function without parameters. Without it, the value of a
            new session is `None`.
        type: the type that stored data must fit. Needed only when `initial` is neither a class nor has a return
            annotation.
        **options: the same as those of `chatsession.SessionManager`.

    Raises:
        TypeError: values of this type cannot be stored.
        ValueError: an option has an invalid value.
        StorageError: the storage's URL is wrong.

    Examples:
        >>> from chatsession.sync import SessionManager
        >>> with SessionManager(int, storage="memory:") as counters:
        ...     with counters.open("424242") as s:
        ...         s.data += 1
        ...     counters.update("424242", lambda count: count + 1)
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
        if options.observe is not None:
            options = replace(options, observe=in_callers_thread(options.observe))
        self.asynchronous: AsyncSessionManager[T] = AsyncSessionManager.from_options(options)
        """What does the work, in the event loop of the library."""
        self.loop_user: LoopUser = self.asynchronous
        """What `close` closes in the event loop. For integrations."""
        self.storage: Storage = self.asynchronous.storage
        self._loop_thread: LoopThread | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<chatsession.sync.SessionManager {self.options.name!r} on {self.storage!r}>"

    def open(self, key: str | int) -> Session[T]:
        """Open one session from anywhere: the handler of an update, a web server, or a script.

        It has the same guarantees everywhere.

        Args:
            key: as `get_session_key` returns it, without the prefix.

        Returns:
            The session. `with` waits for the key, loads the session, and commits it at the end of the block.

        Raises:
            SessionKeyError: the key is empty, of a wrong type or not valid Unicode.
        """
        session = self.asynchronous.open(key)
        return Session(session, Block(session, self.join, session.key))

    def open_many(self, keys: Iterable[str | int]) -> SessionGroup[T]:
        """Open several sessions at once, without deadlocks: the keys are always locked in the same order.

        Each session is committed atomically by itself. If one of them cannot be encoded, none is written.

        Args:
            keys: the keys, each once.

        Returns:
            A group. `with` opens the sessions and returns them in the order of the keys.
        """
        return SessionGroup(Block(self.asynchronous.open_many(keys), self.join))

    def update(self, key: str | int, function: Callable[[T], T | None]) -> T:
        """Change a session atomically: read it, call the function, write the result; retry after a conflict.

        Args:
            key: the session's key.
            function: takes the data and returns the new data, or changes the data in place and returns `None`. After
                a conflict it is called again, with freshly loaded data.

        Returns:
            The data as it was stored.

        Raises:
            SessionConflictError: another commit was faster 50 times in a row.
            TypeError: the function is async; nothing was written.
        """
        tries = 0
        while True:
            tries += 1
            try:
                with self.open(key) as session:
                    changed = _not_async(function(session.data))
                    if changed is not None:
                        session.data = changed
                    data = session.data
            except SessionConflictError:
                if tries == UPDATE_TRIES:
                    raise
                time.sleep(random.uniform(0, 0.001 * min(tries, 20)))
            else:
                return data

    def get(self, key: str | int) -> T | None:
        """Read what the last commit stored, without waiting for a lock; `None` if there is no session.

        The value is a copy: changing it does not change the session.
        """
        return self.join().call(self.asynchronous.get, key)

    def put(self, key: str | int, value: T) -> None:
        """Replace what is stored, whatever it is. Waits for the update that is running for the key.

        Raises:
            SessionEncodeError: the value cannot be stored; nothing was written.
        """
        self.join().call(self.asynchronous.put, key, value)

    def delete(self, key: str | int) -> bool:
        """Delete a session. Waits for the update that is running for the key.

        Returns:
            Whether there was a session.
        """
        return self.join().call(self.asynchronous.delete, key)

    def count(self) -> int:
        """The number of stored sessions. Reads all keys, in constant memory."""
        return self.join().call(self.asynchronous.count)

    def keys(self) -> Iterator[str]:
        """The keys of all stored sessions, without the prefix, in constant memory; for example for a broadcast.

        Sessions that are stored or deleted during the iteration may or may not be included.
        """
        return self._in_pages(self.asynchronous.keys())

    def entries(self) -> Iterator[tuple[str, T]]:
        """All stored sessions as pairs of key and data, without locks, in constant memory.

        Raises:
            SessionDecodeError: a session does not fit its type.
        """
        return self._in_pages(self.asynchronous.entries())

    def move(self, old: str | int, new: str | int) -> None:
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
        self.join().call(self.asynchronous.move, old, new)

    def rewrite(
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
            progress: called with the report after each page, in the library's thread.

        Returns:
            How many sessions were examined and rewritten, how many failed, and why.
        """
        rewrite = partial(self.asynchronous.rewrite, dry_run=dry_run, resume=resume, progress=progress)
        return self.join().call(rewrite)

    @overload
    def action(self, function: F) -> F: ...
    @overload
    def action(self, *, name: str) -> Callable[[F], F]: ...
    def action(self, function: Callable[..., object] | None = None, *, name: str | None = None) -> object:
        """Register a function, so that `ctx.after_commit` can store a call of it. It runs in a thread of the library.

        Stored calls refer to it by name, also after a restart: pass `name=` to keep the old name of a renamed function.

        Args:
            function: called with the arguments that `after_commit` was given; they must be JSON.
            name: the name in stored calls; without it, the function's own.

        Raises:
            TypeError: the function is async.
            ValueError: another function has this name.
        """
        functions = self.asynchronous.runtime.outgoing.functions

        def register(given: Callable[..., object]) -> Callable[..., object]:
            functions.add_blocking(given, name)
            return given

        return register if function is None else register(function)

    def start(self) -> None:
        """Connect now rather than at the first use. After `close`, connect again."""
        self.attach(None)

    def attach(self, user: object) -> None:
        """Connect for a user of this manager, such as a bot, until it calls `detach`. For integrations."""
        check_may_block()
        self._closed = False
        try:
            self.join().call(self.asynchronous.runtime.start, user)
        except BaseException:
            if self.asynchronous.runtime.loop is None:
                self._leave()
            raise

    def detach(self, user: object, timeout: float) -> int:
        """Close, unless there are other users. Returns how many sessions were still open after `timeout` seconds."""
        check_may_block()
        try:
            return self.join().call(self.asynchronous.runtime.release, user, timeout)
        finally:
            if self.asynchronous.runtime.loop is None:
                self._closed = True
                self._leave()

    def close(self, timeout: float = 30.0) -> None:
        """Open no more sessions, wait for those that are open, and disconnect.

        A storage that was open before its managers is left open. May be called twice.

        Args:
            timeout: seconds to wait for open sessions; those still open afterwards cannot commit.
        """
        check_may_block()
        self._closed = True
        loop_thread = self._loop_thread
        if loop_thread is None or loop_thread.ended:
            return
        try:
            loop_thread.call(self.loop_user.aclose, timeout)
        finally:
            self._leave()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: builtins.type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def join(self) -> LoopThread:
        """The event loop that the sessions of this manager belong to. For integrations.

        Raises:
            SessionClosedError: the manager is closed, or the process is ending.
            SessionError: this thread runs an event loop.
        """
        loop_thread = self._loop_thread
        if loop_thread is None or loop_thread.ended:
            self._check_not_closed()
            loop_thread = self._loop_thread = join_loop(self.loop_user)
            try:
                self._check_not_closed()  # by another thread meanwhile, which saw no loop to leave
            except SessionClosedError:
                self._leave()
                raise
        return loop_thread

    def _check_not_closed(self) -> None:
        if self._closed:
            raise SessionClosedError(
                "its manager is closed; open the session before close(), or start the manager again"
            )

    def _leave(self) -> None:
        self._loop_thread = None
        leave_loop(self.loop_user)

    def _in_pages(self, items: AsyncIterator[V]) -> Iterator[V]:
        while True:
            page, error = self.join().call(_next_page, items)
            yield from page
            if error is not None:
                raise error
            if len(page) < _PAGE:
                return


async def _next_page(items: AsyncIterator[V]) -> tuple[list[V], Exception | None]:
    """The next items, fewer than `_PAGE` only at the end, and the error that followed them."""
    page: list[V] = []
    try:
        async for item in items:
            page.append(item)
            if len(page) == _PAGE:
                break
    except Exception as error:
        return page, error
    return page, None


def _not_async(result: V) -> V:
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()
    raise TypeError("the function of update() must not be async here; nothing was written")
