"""Every command once on Redis, on PostgreSQL and on MongoDB."""

from __future__ import annotations

import asyncio
from itertools import count, cycle
from pathlib import Path

import pytest
from cli_aids import Shell, editor

from chatsession import SessionManager, open_storage
from tools.servers.mongo import MongoServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

_databases = (f"cli_{number}" for number in count())


@pytest.fixture(params=["redis", "postgres", "mongo"])
def server_shell(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    mongo_server: MongoServer,
) -> Shell:
    if request.param == "redis":
        redis_server.ask("FLUSHALL")
        return Shell(redis_server.url)
    if request.param == "mongo":
        return Shell(mongo_server.url.replace("/bot?", f"/{next(_databases)}?"))
    return Shell(postgres_server.create_database(next(_databases)))


def test_one_session(server_shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = server_shell
    monkeypatch.setenv("EDITOR", editor(tmp_path, "sed -i s/1/2/ $1"))
    assert shell.run("set", "42", '{"count":1}').code == 0
    assert shell.run("edit", "42").code == 0
    assert shell.run("get", "42", "--json").json["value"] == {"count": 2}
    assert shell.run("rm", "42").code == 0
    assert shell.run("get", "42").code == 4


def test_all_sessions(server_shell: Shell, shell: Shell) -> None:
    sessions = {f"chat:{number}": b'{"n": %d}' % number for number in range(700)} | {"bytes": b"\xff\x00"}
    server_shell.put(sessions)
    server_shell.put({"ending": b"1"}, ttl=1000)

    assert len(server_shell.run("ls", "--json", "--limit", "0").lines) == 702
    assert server_shell.run("stats", "--json").json["sessions"] == 702
    assert [line["key"] for line in server_shell.run("check", "--json").lines] == ["bytes"]
    assert server_shell.run("export", "all.jsonl").code == 0
    assert server_shell.run("copy", shell.url).code == 0
    assert shell.run("import", "all.jsonl", "--json").json["same"] == 702
    assert server_shell.run("rm", "--prefix", "chat:", "--yes").code == 0
    assert shell.run("copy", server_shell.url, "--json").json["written"] == 700
    assert server_shell.run("sweep").code == 0


async def test_locks(server_shell: Shell) -> None:
    async with SessionManager(int, storage=server_shell.url) as sessions:
        async with sessions.open("a}{b") as session:
            session.data = 1
            (lock,) = (await asyncio.to_thread(server_shell.run, "locks", "--json")).lines
            assert lock["key"] == "a}{b"
            assert lock["holder"].startswith("process ")
            assert "a}{b" in (await asyncio.to_thread(server_shell.run, "locks")).out
            await session.save()
            assert (await asyncio.to_thread(server_shell.run, "locks", "--break", "a}{b", "--yes")).code == 0
            assert (await asyncio.to_thread(server_shell.run, "locks", "--json")).out == ""
        assert await sessions.get("a}{b") == 1


def test_doctor(server_shell: Shell) -> None:
    done = server_shell.run("doctor", "--write")
    assert done.code in (0, 1)
    assert "s3cret-pw" not in done.out + done.err
    assert "a commit takes" in done.out
    if server_shell.url.startswith("redis"):
        assert "append-only file: off" in done.out
        assert "set appendonly yes" in done.out
    elif server_shell.url.startswith("mongodb"):
        assert "write concern: j=True, w=majority" in done.out
    else:
        assert "synchronous_commit: on" in done.out


async def test_pages_of_changing_sizes_give_each_session_once(redis_server: RedisServer) -> None:
    redis_server.ask("FLUSHALL")
    shell = Shell(redis_server.url)
    await asyncio.to_thread(shell.put, {f"chat:{number}": b"1" for number in range(2000)})
    found: list[str] = []
    cursor: str | None = None
    async with open_storage(redis_server.url) as storage:
        for limit in cycle((10, 150)):
            keys, cursor = await storage.scan_keys("", cursor, limit)
            found += keys
            if cursor is None:
                break
    assert (len(found), len(set(found))) == (2000, 2000)


def test_ls_lists_as_many_as_it_was_told(server_shell: Shell) -> None:
    server_shell.put({f"chat:{number}": b"1" for number in range(300)})
    for limit in (1, 8, 150):
        assert len(server_shell.run("ls", "--json", "--limit", str(limit)).lines) == limit
    assert server_shell.run("count").out == "300\n"
