"""What grammY's storages for files, Redis and PostgreSQL wrote moves in."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from chatsession import SessionError, SessionManager, StorageUnavailableError
from chatsession.importers import Entry, grammy, import_into
from tools.servers._process import free_ports

if TYPE_CHECKING:
    from tools.servers.postgres import PostgresServer
    from tools.servers.redis import RedisServer


@dataclass
class Pizza:
    count: int = 0


SESSIONS = {
    "42": {"count": 1},
    "-10042": {"__d": {"count": 2}, "v": 1},
    "7": {"__d": {"count": 3}, "e": int(time.time() * 1000) + 86_400_000},
    "8": {"__d": {"count": 4}, "v": 1, "e": 1000},
    "шляпа/🍕": {"count": 5},
}
BROKEN = {"100": "", "101": "{", "102": '{"__d":null,"m":"1"}'}


def migrate(data: dict[str, int]) -> dict[str, int]:
    return {"count": data["count"] + 100}


async def check(entries: AsyncIterator[Entry], others: dict[str, int]) -> None:
    """All sessions were found, and those without a version are migrated."""
    async with SessionManager(Pizza, storage="memory:", migrations={1: migrate}) as sessions:
        report = await import_into(sessions, entries)
        assert {key: pizza.count async for key, pizza in sessions.entries()} == {
            "42": 101,
            "-10042": 2,
            "7": 103,
            "шляпа/🍕": 105,
        }
        assert report.reasons == {
            "it has expired": 1,
            "it is empty: a write was cut short": 1,
            "it is not JSON": 1,
            "it is an envelope without data": 1,
            **others,
        }


def write_file(folder: Path, key: str, text: str) -> None:
    """As `@grammyjs/storage-file` does."""
    tail = key.encode("utf-16-le")[-4:].decode("utf-16-le", "replace")
    path = folder / tail / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_files_move_in(tmp_path: Path) -> None:
    for key, data in SESSIONS.items():
        write_file(tmp_path, "шляпа.🍕" if "/" in key else key, json.dumps(data, indent="\t"))
    for key, text in BROKEN.items():
        write_file(tmp_path, key, text)
    (tmp_path / "42" / "note.txt").write_text("hello")
    (tmp_path / "42" / "43.json").write_text("{}")
    (tmp_path / "top.json").write_text("{}")

    async def renamed() -> AsyncIterator[Entry]:
        async for entry in grammy.file_entries(tmp_path):
            key = "шляпа/🍕" if entry.key == "шляпа.🍕" else entry.key
            yield Entry(**{**entry.__dict__, "key": key})

    await check(renamed(), {"it is not a file of grammY's": 2})


async def test_files_of_keys_with_slashes(tmp_path: Path) -> None:
    write_file(tmp_path, "a/b:cd", '{"count": 1}')
    assert [entry.key async for entry in grammy.file_entries(tmp_path)] == ["a/b:cd"]


@pytest.mark.parametrize("key", ["pizza🍕", "🍕a", "4", "ü"])
async def test_folders_are_cut_as_javascript_does(tmp_path: Path, key: str) -> None:
    write_file(tmp_path, key, '{"count": 1}')
    assert [(entry.key, entry.problem) async for entry in grammy.file_entries(tmp_path)] == [(key, None)]


async def test_a_folder_that_chatsession_shares_with_grammy(tmp_path: Path) -> None:
    async with SessionManager(Pizza, storage=f"file://{tmp_path}?layout=grammy") as sessions:
        await sessions.update(42, lambda _: Pizza(1))
    found = [(entry.key, entry.data, entry.problem) async for entry in grammy.file_entries(tmp_path)]
    assert found == [("42", {"count": 1}, None)]


async def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="cannot be read: No such file"):
        [entry async for entry in grammy.file_entries(tmp_path / "no")]


async def test_more_files_than_a_page(tmp_path: Path) -> None:
    for n in range(620):
        write_file(tmp_path, str(n + 10), json.dumps({"count": n}))
    async with SessionManager(Pizza, storage="memory:") as sessions:
        report = await import_into(sessions, grammy.file_entries(tmp_path))
        assert report.imported == 620
        assert await sessions.get(629) == Pizza(619)


async def test_redis_moves_in(redis_server: RedisServer) -> None:
    prefix = f"{uuid4().hex}:"
    async with Redis.from_url(redis_server.url) as client:
        await client.mset({prefix + key: json.dumps(data) for key, data in SESSIONS.items()})
        await client.mset({prefix + key: text for key, text in BROKEN.items()})
        await client.mset({"!chatsession:lock:{x}": "1"})
        await client.lpush(f"{prefix}list", "a")

        async def stripped() -> AsyncIterator[Entry]:
            async for entry in grammy.redis_entries(redis_server.url, match=f"{prefix}*"):
                yield Entry(**{**entry.__dict__, "key": (entry.key or "").removeprefix(prefix)})

        await check(stripped(), {})
        everything = [entry.origin async for entry in grammy.redis_entries(client)]
        assert not [origin for origin in everything if "chatsession" in origin]
        await client.flushdb()


async def test_postgresql_moves_in(postgres_server: PostgresServer) -> None:
    table = f'Sessions "{uuid4().hex}"'
    quoted = '"' + table.replace('"', '""') + '"'
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute(f'CREATE TABLE {quoted} ("key" VARCHAR NOT NULL UNIQUE, "value" TEXT)')
    rows = [(key, json.dumps(data)) for key, data in SESSIONS.items()] + list(BROKEN.items())
    rows += [(f"more {n}", '{"count": 1}') for n in range(510)]
    await connection.executemany(f"INSERT INTO {quoted} VALUES ($1, $2)", rows)

    async def without_more() -> AsyncIterator[Entry]:
        async for entry in grammy.postgres_entries(postgres_server.url, table=table):
            if entry.key is None or not entry.key.startswith("more"):
                yield entry

    await check(without_more(), {})
    found = [entry async for entry in grammy.postgres_entries(postgres_server.url, table=table)]
    assert len({entry.origin for entry in found}) == len(found) == len(rows)
    await connection.execute(f"DROP TABLE {quoted}")
    await connection.close()
    with pytest.raises(SessionError, match=r"cannot be read .UndefinedTableError.; pass its name"):
        [entry async for entry in grammy.postgres_entries(postgres_server.url, table=table)]


async def test_a_database_that_is_gone_is_an_error() -> None:
    with pytest.raises(StorageUnavailableError, match="PostgreSQL did not answer"):
        [entry async for entry in grammy.postgres_entries(f"postgresql://a:b@127.0.0.1:{free_ports(1)[0]}/c")]


async def test_redis_that_is_gone_is_an_error() -> None:
    with pytest.raises(StorageUnavailableError, match="Redis did not answer"):
        [entry async for entry in grammy.redis_entries(f"redis://127.0.0.1:{free_ports(1)[0]}")]


@pytest.mark.parametrize("entries", [grammy.redis_entries, grammy.mongo_entries])
async def test_a_wrong_url_is_said_so(entries: Callable[[str], AsyncIterator[Entry]]) -> None:
    with pytest.raises(SessionError, match="the URL"):
        await anext(entries("nonsense"))
