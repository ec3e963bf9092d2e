"""Storages that note what they are asked, contexts, and one face for the three ways to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chatsession import LazySessionFlavor, MemoryStorage, SessionFlavor, SessionManager
from chatsession.coordination.coordinator import coordinator_of
from chatsession.storages import Action, Change, Outcome, Record, Storage
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.unit_of_work.prefixes import PREFIXES


def _is_of_a_session(change: Change) -> bool:
    return change.action is not Action.KEEP and not change.key.startswith(PREFIXES)


class Recording:
    """Notes the keys that are read and the changes that are more than giving a lock back."""

    reads: list[str]
    writes: list[tuple[Action, str]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.reads, self.writes = [], []

    async def read_many(self, keys: Sequence[str]) -> Any:
        self.reads += [key for key in keys if not key.startswith(PREFIXES)]
        return await super().read_many(keys)  # type: ignore[misc]

    async def lock_many(self, requests: Any) -> Any:
        self.reads += [request.key for request in requests]
        return await super().lock_many(requests)  # type: ignore[misc]

    async def commit_many(self, changes: Sequence[Change]) -> Any:
        self.writes += [(change.action, change.key) for change in changes if _is_of_a_session(change)]
        return await super().commit_many(changes)  # type: ignore[misc]


class RecordingMemory(MemoryStorage):
    """Notes the same at `read` and `commit`, so that it stays an immediate storage, as users have it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.reads: list[str] = []
        self.writes: list[tuple[Action, str]] = []

    def read(self, key: str) -> Record | None:
        if not key.startswith(PREFIXES):
            self.reads.append(key)
        return super().read(key)

    def commit(self, change: Change) -> Outcome:
        if _is_of_a_session(change):
            self.writes.append((change.action, change.key))
        reads = len(self.reads)
        try:
            return super().commit(change)
        finally:
            del self.reads[reads:]  # its own look at what is stored


class RecordingSQLite(Recording, SQLiteStorage):
    pass


class Context(SessionFlavor[Any]):
    def __init__(self, chat_id: int | str | None = 1, user_id: int | None = None) -> None:
        self.chat_id = chat_id
        self.user_id = user_id


class LazyContext(LazySessionFlavor[Any]):
    def __init__(self, chat_id: int | str | None = 1, user_id: int | None = None) -> None:
        self.chat_id = chat_id
        self.user_id = user_id


@dataclass
class Pizza:
    count: int = 0
    toppings: list[str] = field(default_factory=list)


class Access:
    """An update's session, whichever way it came."""

    def __init__(
        self,
        get: Callable[[], Awaitable[Any]],
        put: Callable[[Any], None],
        save: Callable[[], Awaitable[None]],
        release: Callable[[], Awaitable[None]],
    ) -> None:
        self.get, self.set, self.save, self.release = get, put, save, release


Handler: TypeAlias = Callable[[Access], Awaitable[None]]
Way: TypeAlias = Callable[[SessionManager[Any], Any, Handler], Awaitable[None]]


async def by_open(manager: SessionManager[Any], key: Any, handler: Handler) -> None:
    async with manager.open(key) as session:

        async def get() -> Any:
            return session.data

        def put(value: Any) -> None:
            session.data = value

        await handler(Access(get, put, session.save, session.release))


async def by_strict(manager: SessionManager[Any], key: Any, handler: Handler) -> None:
    ctx = Context(key)

    async def get() -> Any:
        return ctx.session

    def put(value: Any) -> None:
        ctx.session = value

    await manager.middleware()(ctx, lambda: handler(Access(get, put, ctx.save_session, ctx.release_session)))


async def by_lazy(manager: SessionManager[Any], key: Any, handler: Handler) -> None:
    ctx = LazyContext(key)

    async def get() -> Any:
        return await ctx.session

    def put(value: Any) -> None:
        ctx.session = value

    await manager.lazy_middleware()(ctx, lambda: handler(Access(get, put, ctx.save_session, ctx.release_session)))


WAYS: dict[str, Way] = {"open": by_open, "strict": by_strict, "lazy": by_lazy}


async def nothing(access: Access) -> None:
    """A handler that does not touch its session."""


async def look(access: Access) -> None:
    """A handler that only reads."""
    await access.get()


async def count_one(access: Access) -> None:
    """A handler that awaits between reading and writing an int."""
    count = await access.get()
    await asyncio.sleep(0)
    access.set(count + 1)


async def value_of(storage: Storage, key: str) -> bytes | None:
    (found,) = await storage.read_many([key])
    assert not isinstance(found, Exception), found
    return None if found is None else found.value


async def put(storage: Storage, key: str, value: bytes) -> None:
    await storage.commit_many([Change(key, Action.PUT, value)])


async def steps(count: int) -> None:
    """Let the event loop go on so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def assert_nothing_is_held(storage: Storage) -> None:
    """Neither here nor in the storage is any lock, queue, lease or call left."""
    coordinator = coordinator_of(storage)
    coordinator._cache.give_back_all()  # what an update left for the next one is not held by anybody
    for calls in (coordinator._reads, coordinator._locks, coordinator._commits):
        await calls.drain()
    assert coordinator._commits._pipelines == {}
    assert (len(coordinator.queue), len(coordinator.queue._queues), len(coordinator.leases)) == (0, 0, 0)
    if isinstance(storage, SQLiteStorage) and storage.is_open:
        now = storage._clock()
        for table in ("session_locks", "session_waiters"):
            assert await rows(storage, f"SELECT key FROM {table} WHERE until > {now}") == []


async def rows(storage: SQLiteStorage, query: str) -> list[tuple[Any, ...]]:
    return await storage._at_work.submit(lambda connection, _: connection.execute(query).fetchall(), writes=False)


class Gate:
    """Tells that somebody came, and holds them until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


async def enter_all(stack: AsyncExitStack, *managers: SessionManager[Any]) -> None:
    for manager in managers:
        await stack.enter_async_context(manager)
