"""Redis and Valkey servers: one alone, one behind sentinels, a cluster."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.servers._certificate import certificate_in
from tools.servers._process import (
    Server,
    ServerFailedError,
    ServerProcess,
    credentials,
    free_ports,
    program,
    temporary_folder,
    wait_until,
)

SERVICE = "sessions"
"""The name by which the sentinels know the primary."""


class RedisServer(Server):
    """One server on 127.0.0.1 that keeps nothing on disk; a context manager.

    Args:
        password: of the default user; `None`: none is needed.
        tls: speak nothing but TLS, with a certificate made for the occasion (see `certificate`).
        maxmemory: a limit as in `redis.conf`, such as `"3mb"`, with the policy `noeviction`.
        arguments: further ones for `redis-server`.
        folder: where it works; `None`: a new folder that goes with it.
        port: where it listens; `None`: a free one.
        valkey: run Valkey instead of Redis.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        tls: bool = False,
        maxmemory: str | None = None,
        arguments: Sequence[str] = (),
        folder: Path | None = None,
        port: int | None = None,
        valkey: bool = False,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.scheme = "valkey" if valkey else "redis"
        self.password = password
        self.tls = tls
        self._own_folder = folder is None
        self.folder = folder or temporary_folder("redis")
        binary = program("valkey-server", str(Path.home() / ".local/bin")) if valkey else program("redis-server")
        command = [binary, "--save", "", "--bind", "127.0.0.1", "--databases", "4"]
        command += self._listening()
        command += ["--requirepass", password, "--masterauth", password] if password else []
        command += ["--maxmemory", maxmemory] if maxmemory else []
        self.process = ServerProcess([*command, *arguments], self.port, self.folder)

    @property
    def url(self) -> str:
        """The server's address with its password, as `open_storage` takes it."""
        trust = f"?ssl_ca_certs={self.certificate}" if self.tls else ""
        return (
            f"{self.scheme}{'s' if self.tls else ''}://{credentials(None, self.password)}127.0.0.1:{self.port}/0{trust}"
        )

    @property
    def certificate(self) -> Path:
        """The certificate by which a client may know the server."""
        return certificate_in(self.folder).certificate

    def ask(self, *words: str | int) -> str:
        """Send a command, and return the answer as `redis-cli` prints it.

        Raises:
            ServerFailedError: there was none, or it was an error.
        """
        return _ask(self.port, *words, password=self.password, certificate=self.certificate if self.tls else None)

    def start(self) -> None:
        """Start it (again), empty."""
        if self.tls:
            certificate_in(self.folder)
        self.process.start(lambda: self.says("PONG", "PING"))

    def says(self, text: str, *words: str) -> bool:
        """Is this text a part of the answer to this command?"""
        try:
            return text in self.ask(*words)
        except ServerFailedError:
            return False

    def _begin(self) -> None:
        self.start()

    def _end(self) -> None:
        self.process.stop()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _listening(self) -> list[str]:
        if not self.tls:
            return ["--port", str(self.port)]
        certificate, key = map(str, certificate_in(self.folder))
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate),
        ]


class RedisSentinel(Server):
    """A primary, its replicas, and three sentinels that replace it within about 2 s of its death.

    Args:
        replicas: how many servers stand by.
        password: of the servers; the sentinels want none.
        down_after: seconds of silence after which a server counts as dead; long where none is to die, because on a
            busy machine it may well be silent for half a second.
    """

    def __init__(self, *, replicas: int = 1, password: str | None = None, down_after: float = 0.5) -> None:
        self.folder = temporary_folder("redis-sentinel")
        first, *others = ports = free_ports(1 + replicas)
        following = ("--replicaof", "127.0.0.1", str(first))
        self.servers = [
            RedisServer(
                port=port,
                password=password,
                folder=self.folder / str(port),
                arguments=(*(following if port in others else ()), "--repl-diskless-sync-delay", "0"),
            )
            for port in ports
        ]
        self.sentinel_ports = free_ports(3)
        self._down_after = down_after
        self._sentinels = [self._sentinel(port, first, password) for port in self.sentinel_ports]
        self.password = password

    @property
    def url(self) -> str:
        """The address of the service, as `open_storage` takes it."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{credentials(None, self.password)}{hosts}/{SERVICE}"

    @property
    def primary(self) -> RedisServer:
        """The server that the sentinels now take for the primary."""
        _, port = _ask(self.sentinel_ports[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE).split()
        return next(server for server in self.servers if server.port == int(port))

    def _begin(self) -> None:
        for server in self.servers:
            server.start()
        for sentinel in self._sentinels:
            sentinel.start()
        wait_until(self._ready, "replicas and sentinels knowing each other")

    def _end(self) -> None:
        for sentinel in self._sentinels:
            sentinel.kill()
        for server in self.servers:
            server.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sentinel(self, port: int, primary: int, password: str | None) -> ServerProcess:
        folder = self.folder / str(port)
        folder.mkdir(parents=True)
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} {int(1000 * self._down_after)}",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel auth-pass {SERVICE} {password}" if password else "",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines))
        return ServerProcess([program("redis-sentinel"), "sentinel.conf"], port, folder)

    def _ready(self) -> bool:
        for port in self.sentinel_ports:
            lines = _ask(port, "SENTINEL", "MASTER", SERVICE).splitlines()
            state = dict(zip(lines[::2], lines[1::2], strict=True))
            known = state["num-other-sentinels"] == "2" and state["num-slaves"] == str(len(self.servers) - 1)
            if not known or state["flags"] != "master":
                return False
        return all(replica.says("master_link_status:up", "INFO", "replication") for replica in self.servers[1:])


class RedisCluster(Server):
    """Three primaries with a replica each; a replica takes over within about 2 s of its primary's death.

    Args:
        password: of all servers.
        down_after: seconds of silence after which a server counts as dead; see `RedisSentinel`.
    """

    def __init__(self, *, password: str | None = None, down_after: float = 1.0) -> None:
        self.folder = temporary_folder("redis-cluster")
        self.password = password
        self.servers = [
            RedisServer(
                port=port,
                password=password,
                folder=self.folder / str(port),
                arguments=(
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(int(1000 * down_after))),
                    *("--cluster-port", str(bus), "--repl-diskless-sync-delay", "0"),
                ),
            )
            for port, bus in zip(*[iter(free_ports(12))] * 2, strict=True)
        ]

    @property
    def url(self) -> str:
        """The addresses of two of the servers, as `open_storage` takes them."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis+cluster://{credentials(None, self.password)}{hosts}"

    def primaries(self) -> list[RedisServer]:
        """The servers that are primaries now."""
        return [server for server in self.servers if server.says("role:master", "INFO", "replication")]

    def _begin(self) -> None:
        for server in self.servers:
            server.start()
        self._join()
        wait_until(self._ready, "the cluster covering all slots")

    def _end(self) -> None:
        for server in self.servers:
            server.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _join(self) -> None:
        hosts = [f"127.0.0.1:{server.port}" for server in self.servers]
        log_in = ["-a", self.password] if self.password else []
        made = subprocess.run(
            [program("redis-cli"), *log_in, "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise ServerFailedError(f"the cluster could not be made:\n{made.stdout}{made.stderr}")

    def _ready(self) -> bool:
        primaries = self.primaries()
        return len(primaries) == 3 and all(
            server.says("cluster_state:ok", "CLUSTER", "INFO")
            and (server in primaries or server.says("master_link_status:up", "INFO", "replication"))
            for server in self.servers
        )


def _ask(port: int, *words: str | int, password: str | None = None, certificate: Path | None = None) -> str:
    log_in = ["-a", password, "--no-auth-warning"] if password else []
    trust = ["--tls", "--cacert", str(certificate)] if certificate else []
    command = [program("redis-cli"), "-e", "-h", "127.0.0.1", "-p", str(port), *log_in, *trust, *map(str, words)]
    try:
        asked = subprocess.run(command, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise ServerFailedError(f"Redis on port {port} did not answer within 120 s") from None
    if asked.returncode:
        raise ServerFailedError((asked.stderr or asked.stdout).decode(errors="replace").strip())
    return asked.stdout.decode(errors="replace").removesuffix("\n")
