"""`make storage-servers`: URLs that work, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chatsession import open_storage
from chatsession.testing.conformance.single import put, value_of
from tools.servers._process import free_ports
from tools.servers.redis import RedisServer

NAMES = ["Redis", "Redis Sentinel", "Redis Cluster", "PostgreSQL", "NATS", "MongoDB"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that servers can enter which run as another user."""
    folder = Path(tempfile.mkdtemp(prefix="chatsession-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def servers(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.servers"),
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
    )
    yield process
    if process.returncode is None:
        process.terminate()
    await process.communicate()


async def urls_of(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    urls: dict[str, str] = {}
    while line := (await process.stdout.readline()).decode().strip():
        name, _, url = line.rpartition(" ")
        urls[name.strip()] = url
    return urls


async def test_each_url_opens_a_storage_and_all_goes_away_with_the_end(
    servers: asyncio.subprocess.Process, folder: Path
) -> None:
    async with asyncio.timeout(120):
        urls = await urls_of(servers)
        assert list(urls) == NAMES
        for url in urls.values():
            async with open_storage(url) as storage:
                await put(storage, "424242", b"1")
                assert await value_of(storage, "424242") == b"1"
        servers.send_signal(signal.SIGINT)
        output, _ = await servers.communicate()
    assert b"Ctrl-C" in output
    assert servers.returncode == 0
    assert os.listdir(folder) == []


async def test_stopped_while_they_start_they_leave_nothing_behind(
    servers: asyncio.subprocess.Process, folder: Path
) -> None:
    assert servers.stdout is not None
    async with asyncio.timeout(60):
        await servers.stdout.readline()
        servers.terminate()
        await servers.communicate()
    assert servers.returncode == 0
    assert os.listdir(folder) == []


async def test_a_missing_program_is_told(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.servers"),
        env={"PATH": str(folder), "TMPDIR": str(folder)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"make servers" in errors
    assert b"Traceback" not in errors


async def test_nobody_takes_the_port_of_a_server_while_it_is_down() -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.1", port)) != 0
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
        with RedisServer(port=port) as server:
            assert server.ask("PING") == "PONG"
