"""MongoDB servers: one alone, or a replica set of one or three."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tools.servers._process import Server, ServerProcess, credentials, free_ports, program, temporary_folder, wait_until

REPLICA_SET = "sessions"


class MongoServer(Server):
    """One server on 127.0.0.1; a context manager.

    Args:
        replica_set: whether it is a replica set of its own, which has change streams.
        user: who may connect; `None`: everybody. Only for a server that is no replica set.
        password: of that user.
        arguments: further ones for `mongod`.
    """

    def __init__(
        self,
        *,
        replica_set: bool = False,
        user: str | None = None,
        password: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.port = free_ports(1)[0]
        self.user, self.password = user, password
        self.folder = temporary_folder("mongo")
        self._replica_set = replica_set
        command = [program("mongod", str(Path.home() / ".local/bin")), "--dbpath", str(self.folder), "--quiet"]
        command += ["--bind_ip", "127.0.0.1", "--port", str(self.port), "--wiredTigerCacheSizeGB", "0.25"]
        # The diagnostics would end the server where a disk is full.
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        command += ["--replSet", REPLICA_SET, "--oplogSize", "64"] if replica_set else []
        command += ["--auth"] if user else []
        self.process = ServerProcess([*command, *arguments], self.port, self.folder)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address of the database `bot`, as `open_storage` takes it."""
        options = f"?replicaSet={REPLICA_SET}" if self._replica_set else "?authSource=admin" if self.user else ""
        return f"mongodb://{credentials(self.user, self.password)}{self.address}/bot{options}"

    def client(self) -> MongoClient[dict[str, Any]]:
        """A synchronous client, which the caller closes."""
        return MongoClient(
            self.address,
            username=self.user,
            password=self.password,
            directConnection=True,
            serverSelectionTimeoutMS=2000,
        )

    def command(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run a command of an administrator."""
        with self.client() as client:
            return client.admin.command(dict(command))

    def start(self) -> None:
        """Start it (again), with what it stored."""
        self.process.start()

    def restart(self) -> None:
        """End it by SIGKILL, and start it again at once."""
        self.process.kill()
        self.start()
        wait_until(lambda: _holds(self._leads), "the server becoming the primary")

    def _begin(self) -> None:
        self.start()
        if self._replica_set:
            _initiate(self, [self])
            wait_until(lambda: _holds(self._leads), "the server becoming the primary")
        if self.user:
            self._create_user()

    def _end(self) -> None:
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _leads(self) -> bool:
        return bool(self.command({"hello": 1})["isWritablePrimary"])

    def _create_user(self) -> None:
        with MongoClient[dict[str, Any]](f"mongodb://{self.address}") as client:
            client.admin.command("createUser", self.user, pwd=self.password, roles=["root"])


class MongoReplicaSet(Server):
    """Three servers on 127.0.0.1, one of them the primary; a context manager.

    Args:
        arguments: further ones for each `mongod`.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.servers = [MongoServer(replica_set=True, arguments=arguments) for _ in range(3)]

    @property
    def url(self) -> str:
        """The addresses of all, as `open_storage` takes them."""
        addresses = ",".join(server.address for server in self.servers)
        return f"mongodb://{addresses}/bot?replicaSet={REPLICA_SET}"

    def primary(self) -> MongoServer:
        """The server that takes writes; waits until there is one."""
        found: list[MongoServer] = []

        def look() -> bool:
            found[:] = [server for server in self.servers if _holds(server._leads)]
            return len(found) == 1

        wait_until(look, "the election of a primary")
        return found[0]

    def step_down(self) -> None:
        """Let the primary give way to another server."""
        with suppress(PyMongoError):  # it may close the connection
            self.primary().command({"replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 5})

    def all_follow(self) -> None:
        """Wait until there is a primary, and the others follow it."""

        wait_until(self._all_follow, "all servers following the primary")

    def revive(self) -> None:
        """Start those that have ended, and that still end, until all follow the primary."""

        def revived() -> bool:
            for server in self.servers:
                if server.process.has_ended:
                    server.start()
            return self._all_follow()

        wait_until(revived, "all servers following the primary")

    def _all_follow(self) -> bool:
        def shows_all(server: MongoServer) -> bool:
            states = [member["stateStr"] for member in server.command({"replSetGetStatus": 1})["members"]]
            return sorted(states) == ["PRIMARY", "SECONDARY", "SECONDARY"]

        return any(_holds(partial(shows_all, server)) for server in self.servers)

    def _begin(self) -> None:
        for server in self.servers:
            server.start()
        _initiate(self.servers[0], self.servers)
        self.primary()

    def _end(self) -> None:
        for server in self.servers:
            server.process.kill()  # told to end, the last of them would wait for a majority
        for server in self.servers:
            server._end()


def _initiate(first: MongoServer, members: Sequence[MongoServer]) -> None:
    config = {
        "_id": REPLICA_SET,
        "members": [{"_id": number, "host": server.address} for number, server in enumerate(members)],
        "settings": {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500},
    }
    first.command({"replSetInitiate": config})


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (PyMongoError, OSError):
        return False
