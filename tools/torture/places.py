"""Where sessions are tortured: every storage, with what can go wrong there."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import ClassVar, Self, TypeAlias

from pymongo.errors import PyMongoError

from tools.servers._process import ServerFailedError, wait_until
from tools.servers.mongo import MongoReplicaSet, MongoServer
from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import SERVICE, RedisCluster, RedisSentinel, RedisServer, _ask

Troubles: TypeAlias = Mapping[str, Callable[[Random], None]]
Limits: TypeAlias = Mapping[str, tuple[Callable[[], None], Callable[[], None]]]

_DEAD_AFTER = 2000
"""Milliseconds of silence after which a server is replaced; sooner, a busy machine replaces servers that are alive."""


class Place:
    """One storage; a context manager. All its methods may take seconds.

    Attributes:
        megabytes: of the disk that it gets.
        shared: several processes can use it.
        lease: seconds of a lock's lease.
        own_clock: the workers' clocks decide what has expired.
        fills_disk: its disk is filled now and then.
        fails_over: another server may take over that does not have what was not acknowledged yet.
        promise: what the storage promises when a server dies, in a few words.
    """

    megabytes: ClassVar[int] = 256
    shared: ClassVar[bool] = True
    lease: ClassVar[float] = 2.0
    own_clock: ClassVar[bool] = False
    promise: ClassVar[str] = ""
    fills_disk: ClassVar[bool] = True
    fails_over: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()
        self.servers: Sequence[RedisServer | PostgresServer | NatsServer | MongoServer] = ()

    @property
    def url(self) -> str:
        """As `open_storage` takes it."""
        raise NotImplementedError

    @property
    def ports(self) -> Sequence[int]:
        """Of the servers, behind proxies."""
        return [server.port for server in self.servers]

    def start(self) -> None:
        """Start the servers."""

    def troubles(self) -> Troubles:
        """What can be done to the servers, each returning when they are well again."""
        return {}

    def limits(self) -> Limits:
        """What can be taken from the servers for a while: taken, and given back."""
        return {}

    def revive(self) -> None:
        """Start what ended for want of room on its disk."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()


class Memory(Place):
    """One process; it is not killed, because its sessions end with it."""

    shared = False
    fills_disk = False
    own_clock = True
    promise = "lost with the process, which is why it is not killed here"

    @property
    def url(self) -> str:
        return "memory:"


class File(Place):
    """A folder on a small disk."""

    own_clock = True
    promise = "outlasts a killed process"

    @property
    def url(self) -> str:
        return f"file://{self.folder}/sessions"


class SQLite(Place):
    """A file on a small disk."""

    own_clock = True
    promise = "outlasts a killed process"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/bot.db"

    def troubles(self) -> Troubles:
        return {"file held by another program": self._hold, "file vacuumed": lambda _: self._execute("VACUUM")}

    def _hold(self, random: Random) -> None:
        """Another program writes in a transaction that takes its time."""
        self._execute("BEGIN IMMEDIATE", random.uniform(0.5, 4))

    def _execute(self, statement: str, seconds: float = 0.0) -> None:
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(self.folder / "bot.db")) as connection:
            connection.execute(statement)  # unless the disk is full, or the file busy for long
            time.sleep(seconds)


class Redis(Place):
    """A server that syncs each command to its disk before it answers."""

    megabytes = 512
    promise = "appendfsync always: outlasts a killed server"

    def start(self) -> None:
        arguments = ("--appendonly", "yes", "--appendfsync", "always")
        self._server = self.stack.enter_context(RedisServer(folder=self.folder / "redis", arguments=arguments))
        self.servers = [self._server]

    @property
    def url(self) -> str:
        return f"{self._server.url}?retry_for=5"

    def troubles(self) -> Troubles:
        return {"server killed and started": self._restart}

    def limits(self) -> Limits:
        return {"maxmemory, noeviction": (lambda: self._limit("1mb"), lambda: self._limit("0"))}

    def revive(self) -> None:
        if self._server.process.has_ended:
            self._server.process.kill()
            self._server.start()

    def _restart(self, _: Random) -> None:
        self._server.process.kill()
        self._server.start()

    def _limit(self, size: str) -> None:
        self._server.ask("CONFIG", "SET", "maxmemory", size)


class Sentinel(Place):
    """A primary and a replica, which each commit waits for, behind three sentinels."""

    fails_over = True
    promise = "wait_replicas=1: outlasts the death of the primary"

    def start(self) -> None:
        self._service = self.stack.enter_context(RedisSentinel(replicas=1))
        self.servers = self._service.servers
        for port in self._service.sentinel_ports:
            _ask(port, "SENTINEL", "SET", SERVICE, "down-after-milliseconds", _DEAD_AFTER)

    @property
    def url(self) -> str:
        return f"{self._service.url}?wait_replicas=1&retry_for=5"

    @property
    def ports(self) -> Sequence[int]:
        return [*self._service.sentinel_ports, *super().ports]

    def troubles(self) -> Troubles:
        return {"failover": self._fail_over, "replica killed and started": self._restart_replica}

    def _fail_over(self, _: Random) -> None:
        old = self._service.primary
        old.process.kill()
        wait_until(lambda: self._service.primary is not old, "a new primary")
        new = self._service.primary
        wait_until(lambda: new.says("role:master", "INFO", "replication"), "the new primary taking its place")
        self._start_replica(old, new)

    def _restart_replica(self, _: Random) -> None:
        primary = self._service.primary
        replica = next(server for server in self._service.servers if server is not primary)
        replica.process.kill()
        self._start_replica(replica, primary)

    def _start_replica(self, server: RedisServer, primary: RedisServer) -> None:
        server.start()
        server.ask("REPLICAOF", "127.0.0.1", primary.port)
        wait_until(lambda: server.says("master_link_status:up", "INFO", "replication"), "the replica following")
        wait_until(lambda: primary.says("state=online", "INFO", "replication"), "the primary knowing its replica")


class Cluster(Place):
    """Three primaries, each with a replica that commits wait for."""

    fails_over = True
    promise = "wait_replicas=1: outlasts the death of a primary"

    def start(self) -> None:
        self._cluster = self.stack.enter_context(RedisCluster())
        self.servers = self._cluster.servers
        for server in self._cluster.servers:
            self._be_patient(server)

    @property
    def url(self) -> str:
        return f"{self._cluster.url}?wait_replicas=1&retry_for=5"

    def troubles(self) -> Troubles:
        return {
            "failover": self._fail_over,
            "replica killed and started": self._restart_replica,
            "shard frozen (SIGSTOP)": self._freeze,
        }

    def _freeze(self, random: Random) -> None:
        """Chats of the other shards go on meanwhile; in half of the cases, its replica takes its place."""
        primary = random.choice(self._cluster.primaries())
        primary.process.signal(signal.SIGSTOP)
        try:
            time.sleep(random.uniform(0.2, 2 * _DEAD_AFTER / 1000))
        finally:
            primary.process.signal(signal.SIGCONT)
        wait_until(self._cluster._ready, "the cluster being whole again")

    def _fail_over(self, random: Random) -> None:
        old = random.choice(self._cluster.primaries())
        old.process.kill()
        wait_until(lambda: len(self._cluster.primaries()) == 3, "a new primary")
        self._start(old)

    def _restart_replica(self, random: Random) -> None:
        primaries = self._cluster.primaries()
        replica = random.choice([server for server in self._cluster.servers if server not in primaries])
        replica.process.kill()
        self._start(replica)

    def _be_patient(self, server: RedisServer) -> None:
        server.ask("CONFIG", "SET", "cluster-node-timeout", _DEAD_AFTER)

    def _start(self, server: RedisServer) -> None:
        server.start()
        self._be_patient(server)
        wait_until(self._cluster._ready, "the cluster being whole again")


class Postgres(Place):
    """A server as it comes, `synchronous_commit` and `fsync` on."""

    megabytes = 1024
    promise = "synchronous_commit on: outlasts a killed server"

    def start(self) -> None:
        settings = {"max_wal_size": "'128MB'", "checkpoint_timeout": "'30s'"}
        self._server = self.stack.enter_context(PostgresServer(settings))
        self.servers = [self._server]

    @property
    def url(self) -> str:
        return f"{self._server.url}?retry_for=5"

    def troubles(self) -> Troubles:
        return {
            "server stopped at once and started": lambda _: self._server.restart("immediate"),
            "server restarted": lambda _: self._server.restart("fast"),
            "server process killed": self._kill_backend,
            "row of a session held": lambda random: self._hold("chat_sessions", random),
            "row of a lease held": lambda random: self._hold("chat_sessions_leases", random),
        }

    def revive(self) -> None:
        if not self._answers():
            wait_until(self._started, "PostgreSQL starting again", 60)

    def _kill_backend(self, random: Random) -> None:
        """All others end with it, and the server recovers as after a crash."""
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        pids = self._server.psql(query).split()
        with suppress(IndexError, ProcessLookupError):  # none is there, or it has ended meanwhile
            os.kill(int(random.choice(pids)), signal.SIGKILL)
        wait_until(self._answers, "PostgreSQL recovering", 60)

    def _hold(self, table: str, random: Random) -> None:
        """Lock a row in a transaction that takes its time."""
        one = f"(SELECT key FROM {table} ORDER BY random() LIMIT 1)"
        with suppress(ServerFailedError):  # the table is not there yet, or the server was stopped meanwhile
            self._server.psql(
                f"BEGIN; SELECT FROM {table} WHERE key = {one} FOR UPDATE;"
                f"SELECT pg_sleep({random.uniform(0.5, 4)}); ROLLBACK"
            )

    def _started(self) -> bool:
        if self._answers():
            return True
        try:
            self._server.start()
        except Exception:
            return False
        return True

    def _answers(self) -> bool:
        try:
            self._server.psql("SELECT 1")
        except Exception:
            return False
        return True


class Nats(Place):
    """One server with JetStream."""

    megabytes = 1024
    lease = 3.0
    promise = "outlasts a killed server"
    fills_disk = False  # it loses what it has acknowledged then

    def start(self) -> None:
        self._server = self.stack.enter_context(NatsServer(folder=self.folder / "nats"))
        self.servers = [self._server]

    @property
    def url(self) -> str:
        return self._server.url

    def troubles(self) -> Troubles:
        return {"server killed and started": lambda _: self._server.restart()}

    def revive(self) -> None:
        # JetStream switches itself off when its disk is full, and stays so until the next start.
        self._server.restart()


_CHECKPOINTS = ("--syncdelay", "10")
"""Every 10 s. When a server of MongoDB starts, it repeats what it did since the last checkpoint. With the default of
60 s, a server that is killed more often than that takes longer every time."""


def _hold_document(server: MongoServer, random: Random) -> None:
    """Change a document in a transaction that takes its time, and then is given up."""
    with suppress(PyMongoError), server.client() as client, client.start_session() as session:
        documents = client["bot"]["sessions"]
        found = next(documents.aggregate([{"$sample": {"size": 1}}]), None)
        if found is not None:
            with session.start_transaction():
                documents.update_one({"_id": found["_id"]}, {"$set": {"held": True}}, session=session)
                time.sleep(random.uniform(0.5, 4))
                session.abort_transaction()


class Mongo(Place):
    """A replica set of one server."""

    megabytes = 1024
    promise = "w: majority, journal: outlasts a killed server"

    def start(self) -> None:
        self._server = self.stack.enter_context(MongoServer(replica_set=True, arguments=_CHECKPOINTS))
        self.servers = [self._server]

    @property
    def url(self) -> str:
        return f"mongodb://{self._server.address}/bot?directConnection=true&retry_for=5"

    def troubles(self) -> Troubles:
        return {
            "server killed and started": lambda _: self._server.restart(),
            "document of a session held": lambda random: _hold_document(self._server, random),
        }

    def revive(self) -> None:
        self._server.restart()  # having been unable to write, it ends at once or a little later


class MongoReplicas(Place):
    """A replica set of three servers."""

    megabytes = 2048
    lease = 4.0
    fails_over = True
    promise = "w: majority: outlasts the death of the primary"

    def start(self) -> None:
        self._replicas = self.stack.enter_context(MongoReplicaSet(_CHECKPOINTS))
        self.servers = self._replicas.servers

    @property
    def url(self) -> str:
        return f"{self._replicas.url}&retry_for=15"

    def troubles(self) -> Troubles:
        return {
            "failover": self._fail_over,
            "primary steps down": self._step_down,
            "replica killed and started": self._restart_replica,
            "document of a session held": lambda random: _hold_document(self._replicas.primary(), random),
        }

    def revive(self) -> None:
        self._replicas.revive()

    def _fail_over(self, _: Random) -> None:
        old = self._replicas.primary()
        old.process.kill()
        self._replicas.primary()
        old.start()
        self._replicas.all_follow()

    def _step_down(self, _: Random) -> None:
        self._replicas.step_down()
        self._replicas.all_follow()

    def _restart_replica(self, random: Random) -> None:
        primary = self._replicas.primary()
        replica = random.choice([server for server in self._replicas.servers if server is not primary])
        replica.process.kill()
        replica.start()
        self._replicas.all_follow()


PLACES: Mapping[str, type[Place]] = {
    "memory": Memory,
    "file": File,
    "sqlite": SQLite,
    "redis": Redis,
    "redis-sentinel": Sentinel,
    "redis-cluster": Cluster,
    "postgres": Postgres,
    "nats": Nats,
    "mongo": Mongo,
    "mongo-replicas": MongoReplicas,
}
