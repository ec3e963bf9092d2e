"""The matrix: every storage, each kind of work, so many updates in flight, sessions of so many bytes."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from chatsession import MemoryStorage, Session, Storage
from chatsession.storages.file import FileStorage
from chatsession.storages.mongo import MongoStorage
from chatsession.storages.nats import NatsStorage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.redis import RedisStorage
from chatsession.storages.sqlite import SQLiteStorage
from tools.benchmarks import mongo, nats, postgres
from tools.benchmarks._chain import Work, bare_chain, for_all, multi, strict_changed, strict_unchanged, untouched
from tools.benchmarks._group import Group, versions
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks._meters import Meter, file_meter, redis_meter, sqlite_meter
from tools.benchmarks._pizza import SMALL, Pizza
from tools.servers.redis import RedisServer

_KEY = bytes(range(32))
_LARGEST = 100_000_000
"""Bytes under way at once; a cell that needs more is left out."""

Setup = Callable[[Storage, Work], AbstractAsyncContextManager[Running]]

KINDS: dict[str, Setup] = {
    "strict, changed": strict_changed,
    "strict, unchanged": strict_unchanged,
    "lazy, untouched": untouched,
    "multi of three": multi,
    "encrypted": strict_changed,
}


@dataclass(frozen=True)
class Scale:
    """How much of the matrix is measured."""

    flights: Sequence[int] = (1, 20, 200, 2_000)
    sizes: Sequence[int] = (SMALL, 10_000, 300_000)
    open_sessions: int = 10_000


FULL = Scale()
QUICK = Scale((1, 200), (SMALL, 10_000), 1_000)


@dataclass(frozen=True)
class Place:
    """Where sessions are kept.

    Args:
        name: in tables.
        storage: makes a storage that finds what an earlier one stored.
        meter: reads what it counts.
        filled: which sessions are stored already.
    """

    name: str
    storage: Callable[[], Storage]
    meter: Meter | None = None
    filled: set[tuple[str, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Cell:
    """One row of the matrix."""

    kind: str
    size: int
    flight: int
    uvloop: bool
    contender: Contender


@contextmanager
def memory() -> Generator[Place]:
    storage = MemoryStorage()
    yield Place("memory", lambda: storage)


@contextmanager
def files() -> Generator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield Place("file", lambda: FileStorage(Path(folder)), file_meter)


@contextmanager
def sqlite() -> Generator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bot.db")
        yield Place("SQLite", lambda: SQLiteStorage(path, synchronous="normal"), sqlite_meter(path))


@contextmanager
def redis() -> Generator[Place]:
    with RedisServer() as server:
        yield Place("Redis", lambda: RedisStorage(server.url), redis_meter(server))


@contextmanager
def postgresql() -> Generator[Place]:
    with postgres.metered_server() as (server, meter):
        yield Place("PostgreSQL", lambda: PostgresStorage(server.url), meter)


@contextmanager
def nats_jetstream() -> Generator[Place]:
    with nats.metered_server() as (server, meter):
        yield Place("NATS", lambda: NatsStorage(server.url), meter)


@contextmanager
def mongodb() -> Generator[Place]:
    with mongo.metered_server() as (server, meter):
        yield Place("MongoDB", lambda: MongoStorage(server.url), meter)


PLACES: dict[str, Callable[[], AbstractContextManager[Place]]] = {
    "memory": memory,
    "file": files,
    "sqlite": sqlite,
    "redis": redis,
    "postgres": postgresql,
    "nats": nats_jetstream,
    "mongo": mongodb,
}


HEADINGS = ("work", "bytes", "in flight")


@contextmanager
def group(name: str, scale: Scale) -> Generator[Group]:
    """Opens the place where the sessions of this part of the matrix are kept."""
    with PLACES[name]() as place:
        held = asyncio.run(held_by_open_sessions(place, scale.open_sessions))
        bare, rows = cells(place, scale)
        labels = {each.name: (each.name, "", "") for each in bare}
        for row in rows:
            flight = f"{row.flight:,}{', uvloop' if row.uvloop else ''}"
            labels[row.contender.name] = (row.kind, f"{row.size:,}", flight)
        yield Group(
            f"The matrix: {place.name}",
            [*bare, *(row.contender for row in rows)],
            versions("msgspec", "uvloop"),
            note=f"With {scale.open_sessions:,} sessions open at the same time, each holds {held:,.0f} bytes: a value "
            f"of {SMALL} bytes of JSON, its stored form, and its lock.",
            headings=HEADINGS,
            labels=labels,
        )


async def held_by_open_sessions(place: Place, count: int) -> float:
    """Bytes that a session holds while it is open, by tracemalloc."""
    work = Work(chats=count, prefix="held:", filled=place.filled)
    async with place.storage() as storage, work.manager(storage) as sessions:
        await work.fill(sessions)
    async with place.storage() as storage, work.manager(storage) as sessions:  # others, that remember no value
        await sessions.get(0)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        opened: list[Session[Pizza]] = []

        async def hold(chat: int) -> None:
            session = sessions.open(chat)
            await session.__aenter__()
            opened.append(session)
            assert session.data.count == 0

        try:
            await for_all(hold, count)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            await asyncio.gather(*(session.__aexit__(None, None, None) for session in opened))
    return (after - before) / count


def cells(place: Place, scale: Scale) -> tuple[list[Contender], list[Cell]]:
    """The bare chains, and all rows of one storage."""
    bare = [
        Contender(_bare(flight), lambda flight=flight: bare_chain(Work(flight)), "floor") for flight in scale.flights
    ]
    rows = [
        _cell(place, kind, size, flight, fast)
        for size in scale.sizes
        for kind in KINDS
        for flight in scale.flights
        for fast in (False, True)
        if flight * size * (3 if kind == "multi of three" else 1) <= _LARGEST
        and (not fast or (kind == "strict, changed" and size == SMALL))
    ]
    return bare, rows


def _cell(place: Place, kind: str, size: int, flight: int, fast: bool) -> Cell:
    # More than are in flight, so that two updates of one chat seldom meet; fewer where they are large.
    fewest, spare = (20, 40) if size > 100_000 else (100, 400)
    chats = max(flight, fewest, min(2 * flight, spare))
    work = Work(
        flight,
        chats,
        size,
        f"{kind if kind == 'encrypted' else 'plain'}:{size}:",
        place.meter,
        [_KEY] if kind == "encrypted" else (),
        place.filled,
    )
    name = f"{kind}, {size:,} bytes, {flight:,} in flight{', uvloop' if fast else ''}"
    loop = uvloop.new_event_loop if fast else None
    return Cell(
        kind,
        size,
        flight,
        fast,
        Contender(
            name,
            lambda: _running(place, KINDS[kind], work),
            "ours",
            _bare(flight),
            least=flight,
            warm=min(flight, 20),
            loop=loop,
        ),
    )


@asynccontextmanager
async def _running(place: Place, setup: Setup, work: Work) -> AsyncGenerator[Running]:
    async with place.storage() as storage, setup(storage, work) as running:
        yield running


def _bare(flight: int) -> str:
    return f"bare chain, {flight:,} in flight"
