"""PostgreSQL, and PgBouncer in front of it, in temporary folders on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from tools.servers._process import (
    Server,
    ServerFailedError,
    ServerProcess,
    free_ports,
    program,
    temporary_folder,
)

_USER = "chat"
_PASSWORD = "s3cret-pw"
_DATABASE = "chat"
_PATIENCE = 600
"""Seconds after which a program counts as stuck, such as SQL that waits for a lock which nobody gives back."""

StopMode = Literal["smart", "fast", "immediate"]


class PostgresServer(Server):
    """A PostgreSQL server of its own, as a context manager; it keeps its data until the end of the block.

    `fsync` stays on, so that measurements and crashes are realistic.

    Args:
        settings: more settings of `postgresql.conf`, such as `{"max_connections": "10"}`.
        primary: a running server; this one becomes its hot standby, a read-only replica.

    Raises:
        ServerNotFoundError: PostgreSQL is not installed.
        ServerFailedError: it did not start; the message ends with its log.

    Examples:
        >>> with PostgresServer() as server:  # doctest: +SKIP
        ...     print(server.url)
    """

    def __init__(self, settings: dict[str, str] | None = None, *, primary: PostgresServer | None = None) -> None:
        self._settings = settings or {}
        self._primary = primary
        self._folder = temporary_folder("postgres")
        self._data = self._folder / "data"
        self.port = free_ports(1)[0]

    @property
    def url(self) -> str:
        """Where it is, with the name and the password of a superuser."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """The same for another database of this server."""
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _begin(self) -> None:
        _give_to_server(self._folder)
        if self._primary is None:
            self._initialize()
        else:
            self._copy(self._primary)
        self.start()

    def _end(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        self._control("start", "-l", str(self._folder / "server.log"))

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it, by default after a rollback of open transactions; `immediate` is like a crash."""
        self._control("stop", "-m", mode)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start it."""
        self._control("restart", "-m", mode, "-l", str(self._folder / "server.log"))

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self.psql(f'CREATE DATABASE "{name}"')
        return self.url_of(name)

    def psql(self, sql: str, database: str = _DATABASE) -> str:
        """Run SQL as a script and return what it printed, without headings."""
        return self.run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", self.url_of(database), input=sql)

    def run(self, name: str, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess has it
        """Run one of PostgreSQL's own programs and return what it printed."""
        done = subprocess.run(
            [_program(name), *arguments], input=input, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
        if done.returncode:
            raise ServerFailedError(f"{name} failed:\n{done.stderr}")
        return done.stdout

    def log(self) -> str:
        """The end of its log."""
        path = self._folder / "server.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def _initialize(self) -> None:
        password = self._folder / "password"
        password.write_text(_PASSWORD)
        _give_to_server(password)
        self._as_server(
            "initdb", "-D", str(self._data), "-U", _USER, f"--pwfile={password}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        self._configure()
        self.start()
        self.psql(f'CREATE DATABASE "{_DATABASE}"', "postgres")
        self.stop()

    def _copy(self, primary: PostgresServer) -> None:
        self._as_server("pg_basebackup", "-D", str(self._data), "-d", primary.url, "-R", "--checkpoint=fast", "-N")
        self._configure()

    def _configure(self) -> None:
        settings = {
            "port": str(self.port),
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "shared_buffers": "'64MB'",
            **self._settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        with (self._data / "postgresql.auto.conf").open("a") as config:
            config.write(lines)

    def _control(self, action: str, *arguments: str) -> None:
        self._as_server("pg_ctl", action, "-D", str(self._data), "-w", "-t", "60", *arguments)

    def _as_server(self, name: str, *arguments: str) -> None:
        # To a file, since a server that pg_ctl leaves behind would hold a pipe open.
        output = self._folder / "commands.log"
        with output.open("wb") as log:
            done = subprocess.run(
                [_program(name), *arguments],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=_server_user(), check=False,
            )  # fmt: skip
        if done.returncode:
            raise ServerFailedError(f"{name} failed:\n{output.read_text(errors='replace')}\n{self.log()}")


class PgBouncer(Server):
    """PgBouncer in transaction mode in front of a server, as a context manager.

    Args:
        server: the server behind it, which must run.
        connections: how many connections to it PgBouncer shares among its clients.
    """

    def __init__(self, server: PostgresServer, connections: int = 5) -> None:
        self._server = server
        self._connections = connections
        self._folder = temporary_folder("pgbouncer")
        self.port = free_ports(1)[0]
        self._process = ServerProcess(
            [program("pgbouncer", "/usr/sbin", "/usr/local/sbin"), str(self._folder / "pgbouncer.ini")],
            self.port,
            self._folder,
            user=_server_user(),
        )

    @property
    def url(self) -> str:
        """Where it is; the database is the server's."""
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/{_DATABASE}"

    def _begin(self) -> None:
        config = self._folder / "pgbouncer.ini"
        users = self._folder / "users.txt"
        users.write_text(f'"{_USER}" "{_PASSWORD}"\n')
        config.write_text(
            f"""[databases]
* = host=127.0.0.1 port={self._server.port} user={_USER} password={_PASSWORD}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = {self._connections}
max_client_conn = 200
server_login_retry = 0.2
"""
        )
        _give_to_server(self._folder, users, config)
        self._process.start()

    def _end(self) -> None:
        self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _program(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    return program(name, *map(str, versions))


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _give_to_server(*paths: Path) -> None:
    user = _server_user()
    for path in paths:
        path.chmod(0o700 if path.is_dir() else 0o600)
        if user is not None:
            shutil.chown(path, user)
