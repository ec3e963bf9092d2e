"""The storages that are soaked, and what their servers say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from tools.servers._process import free_ports
from tools.servers.mongo import MongoServer
from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisCluster, RedisSentinel, RedisServer


class Told(NamedTuple):
    """What a server told."""

    connections: int
    """That clients have with it; -1: it has none, or cannot be asked."""
    size: int
    """Bytes that what is stored takes; -1: it cannot be asked."""


@dataclass(frozen=True)
class Soaked:
    """A storage that runs."""

    url: str
    ask: Callable[[], Told]


@contextmanager
def memory(_: Path) -> Generator[Soaked, None, None]:
    """Nothing to start."""
    yield Soaked("memory:", lambda: Told(-1, -1))


@contextmanager
def file(folder: Path) -> Generator[Soaked, None, None]:
    """A folder of files."""
    yield Soaked(f"file://{folder}/sessions", lambda: Told(-1, _bytes_in(folder)))


@contextmanager
def sqlite(folder: Path) -> Generator[Soaked, None, None]:
    """A file."""
    yield Soaked(f"sqlite:///{folder}/bot.db", lambda: Told(-1, _bytes_in(folder)))


@contextmanager
def redis(_: Path) -> Generator[Soaked, None, None]:
    """One server."""
    with RedisServer() as server:
        yield Soaked(server.url, lambda: _redis([server], [server]))


@contextmanager
def redis_sentinel(_: Path) -> Generator[Soaked, None, None]:
    """A primary, a replica, three sentinels."""
    with RedisSentinel() as sentinel:
        yield Soaked(sentinel.url, lambda: _redis(sentinel.servers, sentinel.servers[:1]))


@contextmanager
def redis_cluster(_: Path) -> Generator[Soaked, None, None]:
    """Three primaries with a replica each."""
    with RedisCluster() as cluster:
        yield Soaked(cluster.url, lambda: _redis(cluster.servers, cluster.primaries()))


@contextmanager
def postgres(_: Path) -> Generator[Soaked, None, None]:
    """One server, that flushes each commit."""
    with PostgresServer() as server:
        yield Soaked(server.url, lambda: _postgres(server))


@contextmanager
def nats(_: Path) -> Generator[Soaked, None, None]:
    """One server with JetStream."""
    monitor = free_ports(1)[0]
    with NatsServer(settings=[f'http: "127.0.0.1:{monitor}"']) as server:
        yield Soaked(server.url, lambda: _nats(monitor))


@contextmanager
def mongo(_: Path) -> Generator[Soaked, None, None]:
    """A replica set of one."""
    with MongoServer(replica_set=True) as server:
        yield Soaked(server.url, lambda: _mongo(server))


STORAGES = {
    "memory": memory,
    "file": file,
    "sqlite": sqlite,
    "redis": redis,
    "redis-sentinel": redis_sentinel,
    "redis-cluster": redis_cluster,
    "postgres": postgres,
    "nats": nats,
    "mongo": mongo,
}


def _redis(servers: list[RedisServer], with_data: list[RedisServer]) -> Told:
    clients = [line for server in servers for line in server.ask("CLIENT", "LIST").splitlines()]
    size = sum(
        int(line.partition(":")[2])
        for server in with_data
        for line in server.ask("INFO", "memory").splitlines()
        if line.startswith("used_memory:")
    )
    return Told(sum(map(_is_ours, clients)), size)


def _is_ours(client: str) -> bool:
    told = {name: value for name, _, value in (pair.partition("=") for pair in client.split())}
    servers_own = set(told["flags"]) & {"S", "M"} or told["name"].startswith("sentinel-")
    return not servers_own and told["cmd"] != "client|list"


def _mongo(server: MongoServer) -> Told:
    with server.client() as client:
        operations = client.admin.aggregate(
            [
                {"$currentOp": {"allUsers": True, "idleConnections": True}},
                {"$match": {"clientMetadata.application.name": "chatsession", "client": {"$exists": True}}},
            ]
        )
        return Told(len(list(operations)), client.bot.command("collStats", "sessions").get("storageSize", 0))


def _postgres(server: PostgresServer) -> Told:
    answer = server.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();"
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    connections, size = answer.split()
    return Told(int(connections), int(size))


def _nats(monitor: int) -> Told:
    with urlopen(f"http://127.0.0.1:{monitor}/connz", timeout=5) as answer:
        connections = json.load(answer)["num_connections"]
    with urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=5) as answer:
        return Told(connections, json.load(answer)["storage"])


def _bytes_in(folder: Path) -> int:
    """Blocks that are taken on the disk; what goes away meanwhile is not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
