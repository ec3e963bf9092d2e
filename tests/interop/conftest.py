"""The packages that grammY's bots need, installed once beside the tests, and one process for each storage."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from grammy_aids import HERE, GrammyBots, Place

from tools.servers.mongo import MongoServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

_chats = count(424242)


@pytest.fixture(scope="session")
def grammy_packages() -> None:
    """Install what `package-lock.json` names, unless that was done before; in one process at a time."""
    npm = shutil.which("npm")
    assert npm, "npm is needed to test with grammY"
    modules, lock = HERE / "node_modules", HERE / "package-lock.json"
    modules.mkdir(exist_ok=True)
    with (modules / ".installing").open("a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        installed = HERE / ".installed.json"
        if installed.exists() and installed.read_text() == lock.read_text() and (modules / "grammy").exists():
            return
        done = subprocess.run(
            [npm, "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=5"],
            cwd=HERE, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        installed.write_text(lock.read_text())


def _file(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    folder = request.getfixturevalue("tmp_path_factory").mktemp("grammy")
    return f"file://{folder}?layout=grammy", {"folder": str(folder)}


def _redis(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url, {"url": server.url}


def _postgresql(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return f"{server.url}?layout=grammy&table=shared", {"url": server.url, "table": "shared"}


def _mongodb(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    server: MongoServer = request.getfixturevalue("mongo_server")
    return f"{server.url}&layout=grammy&collection=shared", {"url": server.url, "collection": "shared"}


_KINDS: dict[str, Callable[[pytest.FixtureRequest], tuple[str, dict[str, str]]]] = {
    "file": _file,
    "redis": _redis,
    "postgresql": _postgresql,
    "mongodb": _mongodb,
}


@pytest.fixture(scope="module", params=_KINDS)
def place(request: pytest.FixtureRequest, grammy_packages: None) -> Iterator[Place]:
    url, details = _KINDS[request.param](request)
    bots = GrammyBots({"kind": request.param, **details})
    yield Place(request.param, url, bots)
    bots.close()


@pytest.fixture
def chat() -> int:
    """A chat that nobody has written in before."""
    return next(_chats)
