"""All servers that sessions can be kept on, for people who try things by hand: `make storage-servers`.

Starts them in temporary folders on free ports, prints the URLs as `storage=` takes them, and waits for Ctrl-C; then it
stops them and removes the folders.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from tools.servers._process import ServerFailedError, ServerNotFoundError
from tools.servers.mongo import MongoServer
from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisCluster, RedisSentinel, RedisServer


class Server(Protocol):
    """What each of them has once it runs."""

    @property
    def url(self) -> str: ...


SERVERS: Mapping[str, Callable[[], AbstractContextManager[Server]]] = {
    "Redis": RedisServer,
    "Redis Sentinel": RedisSentinel,
    "Redis Cluster": RedisCluster,
    "PostgreSQL": PostgresServer,
    "NATS": NatsServer,
    "MongoDB": lambda: MongoServer(replica_set=True),
}


def main() -> int:
    """Run the servers until Ctrl-C; returns the exit code."""
    # Before the first server starts: whenever the end comes, what runs is stopped and what lies around removed.
    # SIGINT too: a shell has what it starts in the background ignore it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with ExitStack() as running:
        try:
            # One folder round all others: an end that comes while a server is being made leaves nothing either.
            tempfile.tempdir = running.enter_context(tempfile.TemporaryDirectory(prefix="chatsession-servers-"))
            os.chmod(tempfile.tempdir, 0o755)  # PostgreSQL may have to run as another user
            for name, start in SERVERS.items():
                server = running.enter_context(start())
                print(f"{name:<15} {server.url}", flush=True)
            print('\nEach URL goes into SessionManager(…, storage="…"). Ctrl-C stops the servers.', flush=True)
            signal.pause()
        except (ServerNotFoundError, ServerFailedError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopping them.", flush=True)
            _ignore_interrupts()
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
