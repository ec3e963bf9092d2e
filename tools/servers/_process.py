"""A server's process: started on a free port, waited for, and ended with everything it left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote


class ServerNotFoundError(RuntimeError):
    """The server's program is not installed; the message says how to get it."""


class ServerFailedError(RuntimeError):
    """The server ended, or did not answer in time; the message ends with its log."""


def program(name: str, *folders: str) -> str:
    """Find a server's program in the search path or the folders given.

    Raises:
        ServerNotFoundError: it is nowhere.
    """
    path = shutil.which(name) or next(
        (str(Path(folder, name)) for folder in folders if os.access(Path(folder, name), os.X_OK)), None
    )
    if path is None:
        raise ServerNotFoundError(f"{name} is not installed; `make servers` installs it (see tools/install-servers)")
    return path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens, and which nobody else is given for as long as this process runs.

    Otherwise another program's connection may take one before the server does, or while the server is started anew.
    """
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        if sys.platform == "linux":  # elsewhere a bound socket would keep the server itself out
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        if sys.platform == "linux":
            each.detach()  # it stays bound
        else:
            each.close()
    return ports


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """Ask again and again; raises `ServerFailedError` when `seconds` have gone by."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise ServerFailedError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Does anybody accept connections on this port of 127.0.0.1?"""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One server or several, which run in a `with` block. What is left of them when they do not start is removed."""

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


def credentials(user: str | None, password: str | None) -> str:
    """What stands before the host in a URL."""
    return f"{quote(user or '', safe='')}:{quote(password or '', safe='')}@" if user or password else ""


class ServerProcess:
    """One server, in a folder of its own that goes with it.

    Args:
        command: the program and its arguments.
        port: where it will listen.
        folder: its working folder; made when missing.
        user: the name of the user it runs as; `None`: the one who runs this.
    """

    def __init__(self, command: Sequence[str], port: int, folder: Path, *, user: str | None = None) -> None:
        self.command = list(command)
        self.port = port
        self.folder = folder
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id; it must run."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it does not run, because nobody has started it or because it has ended."""
        return self._process is None or self._process.poll() is not None

    def start(self, ready: Callable[[], bool] | None = None) -> None:
        """Start it (again), and wait until it listens, or until `ready` says so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log, user=self._user)
        check = ready or (lambda: listens(self.port))
        try:
            wait_until(lambda: self._alive() and check(), f"{Path(self.command[0]).name} answering")
        except ServerFailedError as error:
            self.kill()
            raise ServerFailedError(f"{error}\n{self.log()}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; after SIGSTOP, it stands still when this returns."""
        if self._process is None:
            return
        self._process.send_signal(number)
        if number is signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it by SIGTERM, or by SIGKILL if that takes longer than 10 s."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(10)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """The end of what it wrote."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def _alive(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise ServerFailedError(f"{Path(self.command[0]).name} ended at its start")
        return True


def temporary_folder(name: str) -> Path:
    """A new folder; whoever made it removes it by `shutil.rmtree`."""
    return Path(tempfile.mkdtemp(prefix=f"chatsession-{name}-"))
