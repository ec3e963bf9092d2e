"""A commit whose answer is lost on its way, while others go on: nobody is told that it was not made if it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import NamedTuple

import pytest
from _mongo_proxy import MongoProxy
from _nats_proxy import NatsProxy
from _pg_proxy import PgProxy
from _proxy import Proxy
from _redis_proxy import RedisProxy

from chatsession.errors import StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Refused, Storage
from chatsession.storages.mongo import MongoStorage
from chatsession.storages.nats import NatsStorage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.redis import RedisStorage
from chatsession.testing.conformance.single import commit, lock, put, request, value_of, wait_for_lock

MINE, THEIRS = b'"my-value"', b'"their-value"'

_names = (f"doubtful-{number}" for number in count())


class Place(NamedTuple):
    """A storage that can be cut off from its server, and another that cannot."""

    here: Storage
    there: Storage
    proxy: Proxy
    commits: bytes
    """What only a commit of `MINE` has on its way to the server."""


@pytest.fixture(params=["redis", "postgres", "nats", "mongo"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server = request.getfixturevalue(f"{request.param}_server")
    name = next(_names)
    make: dict[str, tuple[Callable[[], Proxy], Callable[[str], Storage], bytes]] = {
        "redis": (lambda: RedisProxy(server.port), lambda url: RedisStorage(url, retry_for=60), MINE),
        "postgres": (lambda: PgProxy(server.url), lambda url: PostgresStorage(url, table=name, retry_for=60), MINE),
        "nats": (lambda: NatsProxy(server.port), lambda url: NatsStorage(url, bucket=name, retry_for=60), b"HPUB $KV."),
        "mongo": (
            lambda: MongoProxy(server.port),
            lambda url: MongoStorage(url, collection=name, retry_for=60),
            MINE.strip(b'"'),
        ),
    }
    make_proxy, make_storage, commits = make[request.param]
    async with make_proxy() as proxy, make_storage(proxy.url) as here, make_storage(server.url) as there:  # type: ignore[attr-defined] - each of them has one
        yield Place(here, there, proxy, commits)


@pytest.fixture
def key() -> str:
    return next(_names)


async def they_write(place: Place, key: str, expected: bytes) -> object:
    """Another holder finds what is expected and writes something else; gives the version that it found."""
    theirs = await wait_for_lock(place.there, request(key))
    assert theirs.record is not None
    assert theirs.record.value == expected
    change = Change(key, Action.PUT, THEIRS, theirs.record.version, lease=theirs.lease, unlock=True)
    assert isinstance(await commit(place.there, change), Committed)
    return theirs.record.version


async def test_a_commit_counts_as_made_although_another_holder_wrote(place: Place, key: str) -> None:
    version = await put(place.here, key, b"0")
    held = await lock(place.here, key)
    place.proxy.cut_after = place.commits
    place.proxy.shut()
    change = Change(key, Action.PUT, MINE, version, lease=held.lease, unlock=True)
    committing = asyncio.create_task(commit(place.here, change))
    await place.proxy.was_cut.wait()
    mine = await they_write(place, key, MINE)
    await place.proxy.open()
    outcome = await committing
    assert isinstance(outcome, Committed)
    assert outcome.version == mine
    assert await value_of(place.here, key) == THEIRS


async def test_a_commit_that_never_arrived_is_not_acknowledged(place: Place, key: str) -> None:
    version = await put(place.here, key, b"0")
    held = await lock(place.here, key, 0.5)
    place.proxy.cut_before = place.commits
    place.proxy.shut()
    change = Change(key, Action.PUT, MINE, version, lease=held.lease, unlock=True)
    committing = asyncio.create_task(commit(place.here, change))
    await place.proxy.was_cut.wait()
    await they_write(place, key, b"0")
    await place.proxy.open()
    outcome = await committing
    assert outcome is Refused.LEASE_LOST or isinstance(outcome, StorageUnavailableError)
    assert await value_of(place.here, key) == THEIRS
