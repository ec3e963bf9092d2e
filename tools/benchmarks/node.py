"""grammY and Telegraf on Node.js, with each of their storages, beside sessions on the same ones."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from chatsession import MemoryStorage, Storage
from chatsession.storages.file import FileStorage
from chatsession.storages.mongo import MongoStorage
from chatsession.storages.postgres import PostgresStorage
from chatsession.storages.redis import RedisStorage
from tools.benchmarks import _node, postgres
from tools.benchmarks._chain import Work, bare_chain, strict_changed
from tools.benchmarks._chats import IN_FLIGHT
from tools.benchmarks._group import Goal, Group, no_slower
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks._meters import Meter, file_meter, mongo_meter, postgres_meter, redis_meter
from tools.benchmarks.redis import version
from tools.servers.mongo import MongoServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

_CHAIN = "bare (ctx, next) chain"
_FRAMEWORKS = {"grammY": "grammy", "Telegraf": "telegraf"}
_STORAGES = {"memory": "memory", "Redis": "redis", "PostgreSQL": "postgres", "MongoDB": "mongodb", "files": "file"}
_IN_ONE_PROCESS = ", single_process=True"
"""As those bots run: nothing in theirs keeps a second process from doing harm."""
_WARM = 5_000
"""Updates after which Node.js has compiled what runs often."""
_WHY = {
    "memory": "it hands out the stored object itself: nothing is encoded, no update waits for another, and what a "
    "failing handler changed stays; and Node.js compiles what runs often",
    "Redis": "it locks nothing: of two updates of one chat, one is lost",
    "PostgreSQL": "it locks nothing: of two updates of one chat, one is lost",
    "MongoDB": "it locks nothing: of two updates of one chat, one is lost",
    "files": "it does not sync: a crash loses what lies in the kernel's memory, or leaves half a file",
}


class _Servers(NamedTuple):
    redis: RedisServer
    postgres: PostgresServer
    postgres_meter: Meter
    mongo: MongoServer


@contextmanager
def group() -> Generator[Group]:
    """Fetches the packages, and starts the servers that all share."""
    _node.install_packages()
    with (
        RedisServer() as redis,
        postgres.metered_server() as (database, meter),
        MongoServer(replica_set=True) as documents,
    ):
        servers = _Servers(redis, database, meter, documents)
        contenders = [Contender(_CHAIN, lambda: bare_chain(Work(IN_FLIGHT)), "floor")]
        contenders += [_bare(name) for name in _FRAMEWORKS]
        for storage in _STORAGES:
            contenders.append(_ours(storage, servers))
            if storage in ("Redis", "PostgreSQL", "MongoDB"):
                contenders.append(_ours(storage + _IN_ONE_PROCESS, servers))
            contenders += [_theirs(name, storage, servers) for name in _FRAMEWORKS]
        yield Group(
            "Bots on Node.js, 300 bytes, 1,000 chats, 200 in flight",
            contenders,
            f"{_node.versions('grammy', 'telegraf', '@telegraf/session', 'ioredis', 'redis', 'pg', 'mongodb')}, "
            f"Redis {version(redis)}, PostgreSQL {database.psql('SHOW server_version').split()[0]}, "
            f"MongoDB {documents.command({'buildInfo': 1})['version']}",
            _goals(contenders),
            "Their sessions are neither locked nor isolated nor compared with what is stored; each language's bare bot "
            "(or chain) is what sessions are said to add to.",
        )


def _bare(framework: str) -> Contender:
    return Contender(
        f"{framework}, no state", lambda: _node.bot(_FRAMEWORKS[framework], "none", "", IN_FLIGHT), "floor"
    )


def _ours(storage: str, servers: _Servers) -> Contender:
    return Contender(
        f"chatsession, {storage}",
        lambda: ours(storage, servers),
        "ours",
        _CHAIN,
        warm=200 if storage == "files" else 1_000,
    )


def _theirs(framework: str, storage: str, servers: _Servers) -> Contender:
    return Contender(
        f"{framework}, {storage}",
        lambda: theirs(framework, storage, servers),
        base=f"{framework}, no state",
        warm=_WARM,
    )


def _goals(contenders: list[Contender]) -> list[Goal]:
    ours = [each for each in contenders if each.role == "ours"]
    return [_goal(each.name, framework, _storage_of(each)) for each in ours for framework in _FRAMEWORKS]


def _storage_of(contender: Contender) -> str:
    return contender.name.split(", ")[1]


def _goal(ours: str, framework: str, storage: str) -> Goal:
    return no_slower((ours, _CHAIN), (f"{framework}, {storage}", f"{framework}, no state"), _WHY[storage])


@asynccontextmanager
async def ours(storage: str, servers: _Servers) -> AsyncGenerator[Running]:
    """Sessions on this storage, exclusive and fenced."""
    with tempfile.TemporaryDirectory() as folder:
        _clear(servers)
        make: dict[str, Callable[[], Storage]] = {
            "memory": MemoryStorage,
            "files": lambda: FileStorage(folder),
            "Redis": lambda: RedisStorage(servers.redis.url, single_process=single_process),
            "PostgreSQL": lambda: PostgresStorage(servers.postgres.url, schema="bench", single_process=single_process),
            "MongoDB": lambda: MongoStorage(servers.mongo.url, single_process=single_process),
        }
        meters = {
            "files": file_meter,
            "Redis": redis_meter(servers.redis),
            "PostgreSQL": servers.postgres_meter,
            "MongoDB": mongo_meter(servers.mongo),
        }
        kind, single_process = storage.removesuffix(_IN_ONE_PROCESS), storage.endswith(_IN_ONE_PROCESS)
        async with make[kind]() as opened:
            work = Work(IN_FLIGHT, meter=meters.get(kind))
            async with strict_changed(opened, work) as running:
                yield running


@asynccontextmanager
async def theirs(framework: str, storage: str, servers: _Servers) -> AsyncGenerator[Running]:
    """The framework's own sessions on this storage."""
    with tempfile.TemporaryDirectory() as folder:
        _clear(servers)
        places = {
            "memory": "",
            "files": folder,
            "Redis": servers.redis.url,
            "PostgreSQL": servers.postgres.url,
            "MongoDB": f"{servers.mongo.url}&w=majority",
        }
        meters = {
            "Redis": redis_meter(servers.redis),
            "PostgreSQL": postgres_meter(servers.postgres, wired=False),
            "MongoDB": mongo_meter(servers.mongo),
        }
        bot = _node.bot(_FRAMEWORKS[framework], _STORAGES[storage], places[storage], IN_FLIGHT, meters.get(storage))
        async with bot as running:
            yield running


def _clear(servers: _Servers) -> None:
    servers.redis.ask("FLUSHALL")
    postgres.start_afresh(servers.postgres)
    servers.postgres.psql("DROP TABLE IF EXISTS grammy, telegraf")
    with servers.mongo.client() as client:
        client.drop_database("bot")
