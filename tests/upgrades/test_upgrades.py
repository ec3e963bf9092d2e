"""What any released version has stored is found by the present one, on every storage, and can be written on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from upgrade_keeping import Files, Keeper, Nats, Postgres, RedisKeys, SQLite
from upgrade_kinds import KINDS, check_read, check_redelivered, check_written_on, count_all, store

from chatsession import open_storage
from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

DATA = Path(__file__).parent / "data"
VERSIONS = sorted(folder.name for folder in DATA.iterdir())
KEPT_SINCE = {
    "0.1": set(KINDS),
}
"""Which kinds of sessions a version's files have; a kind that is added later is only in those of later versions."""
STORAGES = ("file", "sqlite", "redis", "postgres", "nats")


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(params=STORAGES)
def make_keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Keeper]:
    """Makes the keeper of an empty storage; each time that of another one, or of the same one to be filled anew."""
    count = iter(range(10))

    def make() -> Keeper:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        match request.param:
            case "file":
                return Files(folder)
            case "sqlite":
                return SQLite(folder)
            case "redis":
                return RedisKeys(request.getfixturevalue("own_redis"))
            case "postgres":
                server: PostgresServer = request.getfixturevalue("postgres_server")
                return Postgres(server, f"upgrades_{tmp_path.name}_{folder.name}")
            case _:
                return Nats(request.getfixturevalue("own_nats"))

    return make


async def check_all(keeper: Keeper, path: Path, kinds: set[str]) -> None:
    await keeper.load(path)
    async with open_storage(keeper.url) as storage:
        keys = await count_all(storage)
        for name in kinds:
            await check_read(storage, name)
            await check_redelivered(storage, name)
            await check_written_on(storage, name)
    async with open_storage(keeper.url) as storage:
        for name in kinds:
            await check_read(storage, name)
        assert await count_all(storage) == keys


def test_the_files_of_every_version_are_looked_at() -> None:
    assert KEPT_SINCE.keys() == set(VERSIONS)
    for version in VERSIONS:
        assert len(list((DATA / version).iterdir())) == len(STORAGES)


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_a_version_stored_is_found_and_can_be_written_on(
    version: str, make_keeper: Callable[[], Keeper]
) -> None:
    keeper = make_keeper()
    await check_all(keeper, DATA / version / keeper.file, KEPT_SINCE[version])


async def test_what_the_present_version_stores_can_be_kept(make_keeper: Callable[[], Keeper], tmp_path: Path) -> None:
    keeper = make_keeper()
    path = tmp_path / keeper.file
    async with open_storage(keeper.url) as storage:
        for name in KINDS:
            await store(storage, name)
    await keeper.keep(path)
    await check_all(make_keeper(), path, set(KINDS))
