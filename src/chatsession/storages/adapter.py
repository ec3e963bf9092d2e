"""A storage of the user's own: three methods, values instead of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast
from weakref import WeakValueDictionary

from chatsession._companions import Companions
from chatsession.errors import SessionError, StorageError
from chatsession.storages import (
    Action,
    Change,
    Committed,
    Expect,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Page,
    Record,
    Refused,
    Storage,
)

T = TypeVar("T")


class StorageAdapter(Protocol[T]):
    """What a storage of your own must have; each method may be sync or async.

    `read` answers `None` only if there is no such key: whatever else goes wrong must be raised, or the session would
    start afresh and be written over what could not be read.

    Optional, for `SessionManager.keys` and `entries`: `read_all_keys()` and `read_all_entries()`, each giving an
    iterable or an async iterable (or an awaitable of one).

    Examples:
        >>> class Shelf:
        ...     def __init__(self):
        ...         self.values = {}
        ...     def read(self, key):
        ...         return self.values.get(key)
        ...     def write(self, key, value):
        ...         self.values[key] = value
        ...     def delete(self, key):
        ...         self.values.pop(key, None)
        >>> from chatsession import SessionManager
        >>> sessions = SessionManager(dict, storage=Shelf())
    """

    def read(self, key: str, /) -> T | Awaitable[T | None] | None:
        """Give the value under a key, or `None` if there is none."""
        ...

    def write(self, key: str, value: T, /) -> object:
        """Store a value; durable when it returns."""
        ...

    def delete(self, key: str, /) -> object:
        """Forget a key; one that is not there is fine."""
        ...


class _Generation:
    """Stands for what an adapter held at one moment, for as long as some session remembers it."""

    __slots__ = ("__weakref__",)


class AdapterStorage(Storage):
    """A user's `StorageAdapter` in the place of a back end.

    Its values travel where other storages have bytes, copied before they are written (and by `ValueCopies` when they
    were read), so that a failing handler leaves no trace in live objects. The adapter is taken to belong to this
    process: updates are serialised here, and versions are remembered only as long as a session is open on them.
    """

    shared: ClassVar[bool] = False
    verbatim: ClassVar[bool] = False
    keeps_values = True
    expiring: bool = False
    batch_size: ClassVar[int] = 1
    batches_in_flight: ClassVar[int] = 10_000

    def __init__(self, adapter: StorageAdapter[Any]) -> None:
        self.adapter = adapter
        self._generations: WeakValueDictionary[str, _Generation] = WeakValueDictionary()
        self._busy: dict[str, asyncio.Future[None]] = {}

    def __repr__(self) -> str:
        return f"<AdapterStorage of {type(self.adapter).__name__}>"

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        records: list[Record | SessionError | None] = []
        for key in keys:
            async with self._alone_with(key):
                records.append(await self._read(key))
        return records

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for change in changes:
            async with self._alone_with(change.key):
                outcomes.append(await self._commit(change))
        return outcomes

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        raise StorageError("a StorageAdapter has no locks; its sessions are serialised within the process")

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        raise StorageError("a StorageAdapter has no locks; its sessions are serialised within the process")

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        entries = await self._all("read_all_entries")
        return Page([(key, Record(value, None)) for key, value in entries if key.startswith(prefix)], None)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        keys = await self._all("read_all_keys")
        return [key for key in keys if key.startswith(prefix)], None

    @contextlib.asynccontextmanager
    async def _alone_with(self, key: str) -> AsyncGenerator[None, None]:
        """One call for a key at a time, so that a value and its generation belong together."""
        while (busy := self._busy.get(key)) is not None:
            await asyncio.wait([busy])
        self._busy[key] = done = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._busy[key]
            done.set_result(None)

    async def _read(self, key: str) -> Record | SessionError | None:
        try:
            value = await settled(self.adapter.read(key))
        except Exception as error:
            return _wrapped(error, key, "read")
        if value is None:
            return None
        generation = self._generations.get(key)
        if generation is None:
            generation = self._generations[key] = _Generation()
        return Record(value, generation)

    async def _commit(self, change: Change) -> Outcome:
        key = change.key
        if change.expect is None:
            found = await self._read(key)
            if isinstance(found, SessionError):
                return found
            if found is not None:
                return Refused.CONFLICT
        elif change.expect is not Expect.ANYTHING and self._generations.get(key) is not change.expect:
            return Refused.CONFLICT
        try:
            if change.action is Action.PUT:
                await settled(self.adapter.write(key, copy.deepcopy(change.value)))
            elif change.action is Action.DELETE:
                await settled(self.adapter.delete(key))
        except Exception as error:
            return _wrapped(error, key, change.action.value)
        generation = self._generations[key] = _Generation()
        return Committed(None if change.action is Action.DELETE else generation)

    async def _all(self, method: str) -> list[Any]:
        read_all = getattr(self.adapter, method, None)
        if read_all is None:
            raise StorageError(f"{type(self.adapter).__name__} has no {method}(), so its sessions cannot be listed")
        found = await settled(read_all())
        if isinstance(found, AsyncIterable):
            return [item async for item in cast("AsyncIterable[Any]", found)]
        return list(cast("Iterable[Any]", found))


_adapted: Companions[StorageAdapter[Any], AdapterStorage] = Companions(AdapterStorage)


def adapted(adapter: StorageAdapter[Any]) -> AdapterStorage:
    """The one `AdapterStorage` of this adapter, so that all managers which use it wait for each other."""
    missing = [name for name in ("read", "write", "delete") if not callable(getattr(adapter, name, None))]
    if missing:
        raise TypeError(
            f"storage must be a Storage, a URL or a StorageAdapter; {type(adapter).__name__} lacks {', '.join(missing)}"
        )
    return _adapted.of(adapter)


async def settled(result: Any) -> Any:
    """What a method gave that may be sync or async."""
    return await result if inspect.isawaitable(result) else result


def _wrapped(error: Exception, key: str, doing: str) -> SessionError:
    if isinstance(error, SessionError):
        return error
    wrapped = StorageError(f"the storage adapter failed to {doing} it ({type(error).__name__})", key=key)
    wrapped.__cause__ = error
    return wrapped
