"""NATS: the shared suite, on a new server and on an old one without times to live."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from chatsession.storages import Action, Change, Refused
from chatsession.storages.nats import NatsStorage
from chatsession.storages.nats._records import Entry, Stored
from chatsession.testing.conformance.single import lock, put, read, request, unlock, value_of, wait_for_lock
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers.nats import NatsServer, binaries

_buckets = count()


@pytest.fixture(scope="module", params=binaries(), ids=lambda path: path)
def server(request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    with NatsServer(binary=request.param) as server:
        yield server


class TestNatsStorage(StorageConformance):
    tick = 0.3
    largest_value = 1_000_000
    more_keys = ("=3D", "=3d", "a=", "a..b", ".", "A.b", "$KV.sessions.a", ">", "*", "a.*")

    @pytest.fixture
    def make_storage(self, server: NatsServer) -> MakeStorage:
        bucket = f"suite-{next(_buckets)}"
        return lambda: NatsStorage(server.url, bucket=bucket)


def _copy(server: NatsServer, copy: Path) -> None:
    """Keep what the server has stored so far."""
    server.process.kill()
    shutil.copytree(server.folder / "jetstream", copy)
    server.process.start()


def _lose(server: NatsServer, copy: Path | None) -> None:
    """Let the server be killed, and come back without its last messages."""
    server.process.kill()
    shutil.rmtree(server.folder / "jetstream")
    if copy is not None:
        shutil.copytree(copy, server.folder / "jetstream")
    server.process.start()


@pytest.mark.parametrize("kept", ["first messages", "nothing"])
async def test_versions_and_tokens_rise_after_a_loss(tmp_path: Path, kept: str) -> None:
    """A server that lost its last messages gives the same revisions to other ones."""
    with NatsServer() as server:
        async with NatsStorage(server.url) as storage:
            await unlock(storage, (await lock(storage, "424242", 0.01)).lease)
        if kept == "first messages":
            _copy(server, tmp_path / "copy")
        async with NatsStorage(server.url) as storage, NatsStorage(server.url) as survivor:
            version = await put(storage, "424242", b"lost")
            await read(survivor, "424242")
            lease = (await lock(storage, "424242", 600)).lease
            await storage.close()
            _lose(server, tmp_path / "copy" if kept == "first messages" else None)
            if kept == "first messages":
                granted = await wait_for_lock(survivor, request("424242"))
                assert granted.lease.token > lease.token
                await unlock(survivor, granted.lease)
        async with NatsStorage(server.url) as storage:
            await put(storage, "424242", b"acknowledged")
            late = [
                Change("424242", Action.PUT, b"late", expect=version),
                Change("424242", Action.PUT, b"late", lease=lease),
            ]
            assert [(await storage.commit_many([change]))[0] for change in late[:1]] == [Refused.CONFLICT]
            assert (await lock(storage, "424242", 600)).lease.token > lease.token
            assert (await storage.commit_many(late[1:]))[0] is Refused.LEASE_LOST
            assert await value_of(storage, "424242") == b"acknowledged"


def test_a_revision_that_is_given_again_makes_another_version() -> None:
    """As by a server of a cluster that lost its last messages, while all are connected to the other servers."""
    one, other = (Stored(7, b"1", Entry(era=1, lease_seconds=1.0), name) for name in ("lost", "acknowledged"))
    following = Stored(8, b"1", Entry(era=1, lease_seconds=1.0), "next")
    assert one.version != other.version
    assert one.token != other.token
    assert max(one.version, other.version) < following.version
