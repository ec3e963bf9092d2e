"""Each update changes its session exactly once, though Telegram delivers many of them several times (rule 19).

Two real webhook servers share the sessions. Handlers are slow, so that deliveries time out and are made again while the
first still runs; some updates are delivered to both servers at once; and now and then one of the servers is killed,
also after it has committed a session and before it has said so.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

import msgspec
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from places import KINDS
from webhook_sessions import Options, Tally, manager

HERE = Path(__file__).parent
CHATS = 8
KILLS = 4
SERVERS = 2
IN_FLIGHT = 24


class Server(NamedTuple):
    pid: int
    port: int


class Servers:
    """Starts processes with the bot, for all tests here; a context manager."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            command = [sys.executable, str(HERE / "webhook_bot.py")]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    async def start(self, options: Options) -> Server:
        return await asyncio.to_thread(self._start, options)

    def _start(self, options: Options) -> Server:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(options) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()[-3000:]
        return Server(*map(int, line.split()))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("webhook") / "servers.log") as servers:
        yield servers


class Telegram:
    """Delivers updates until they are acknowledged, as Telegram does; and kills servers, which it does not."""

    def __init__(self, servers: Servers, options: Options, updates: int) -> None:
        self._servers = servers
        self._options = options
        self._running: list[Server] = []
        self._killing = asyncio.Lock()
        self._random = random.Random(updates)
        self.chats = {update_id: self._random.randrange(CHATS) + 1 for update_id in range(1, updates + 1)}
        self._kill_after = sorted(self._random.sample(range(updates // 10, updates * 9 // 10), KILLS))
        self._acknowledged = 0
        self.deliveries = 0

    async def deliver_all(self) -> None:
        upcoming = iter(list(self.chats))
        self._running = [await self._servers.start(self._options) for _ in range(SERVERS)]
        async with ClientSession() as http, asyncio.TaskGroup() as group:

            async def some() -> None:
                for update_id in upcoming:
                    await self._deliver(http, update_id)

            for _ in range(IN_FLIGHT):
                group.create_task(some())
        for server in self._running:
            os.kill(server.pid, signal.SIGKILL)

    async def _deliver(self, http: ClientSession, update_id: int) -> None:
        twice = self._random.random() < 0.2
        await asyncio.gather(*(self._deliver_until_acknowledged(http, update_id) for _ in range(1 + twice)))
        self._acknowledged += 1
        if self._kill_after and self._acknowledged >= self._kill_after[0]:
            self._kill_after.pop(0)
            await self._kill_one()

    async def _deliver_until_acknowledged(self, http: ClientSession, update_id: int) -> None:
        payload = message(update_id, self.chats[update_id])
        retry_for = self._random.choice([0.05, 0.3, 30])
        while True:
            self.deliveries += 1
            server = self._random.choice(self._running)
            try:
                url = f"http://127.0.0.1:{server.port}/hook"
                async with http.post(url, json=payload, timeout=ClientTimeout(total=retry_for)) as answer:
                    if answer.ok:
                        return
            except (ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.01)
            retry_for *= 2

    async def _kill_one(self) -> None:
        async with self._killing:
            number = self._random.randrange(SERVERS)
            os.kill(self._running[number].pid, signal.SIGKILL)
            self._running[number] = await self._servers.start(self._options)


def message(update_id: int, chat: int) -> dict[str, object]:
    return {
        "update_id": update_id,
        "message": {
            "message_id": update_id,
            "date": 1_700_000_000,
            "chat": {"id": chat, "type": "private", "first_name": "A"},
            "from": {"id": chat, "is_bot": False, "first_name": "A"},
            "text": "hello",
        },
    }


async def deliver_everything(servers: Servers, options: Options, updates: int) -> tuple[Telegram, dict[int, Tally]]:
    """Deliver so many updates, with all that can go wrong; gives what is stored then."""
    telegram = Telegram(servers, options, updates)
    await telegram.deliver_all()
    async with manager(options) as sessions:
        return telegram, {int(key): tally async for key, tally in sessions.entries()}


def options_of(request: pytest.FixtureRequest, kind: str, *, deduplicate: int) -> Options:
    return Options(
        url=KINDS[kind].url(request),
        prefix=f"{uuid4().hex}:",
        lock_lease=KINDS[kind].lease,
        deduplicate=deduplicate,
    )


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_each_update_changes_its_session_exactly_once(
    request: pytest.FixtureRequest, servers: Servers, kind: str
) -> None:
    options = options_of(request, kind, deduplicate=1000)
    telegram, found = await deliver_everything(servers, options, updates=240)
    assert telegram.deliveries > len(telegram.chats) * 1.2, "without repeated deliveries, this proves nothing"
    assert Counter({chat: tally.count for chat, tally in found.items()}) == Counter(telegram.chats.values())
    for chat, tally in found.items():
        assert sorted(tally.by) == sorted(update for update, where in telegram.chats.items() if where == chat)


async def test_without_deduplicate_updates_count_several_times(
    request: pytest.FixtureRequest, servers: Servers
) -> None:
    """Or the test above would prove nothing."""
    options = options_of(request, "sqlite", deduplicate=0)
    telegram, found = await deliver_everything(servers, options, updates=120)
    counted = Counter(update for tally in found.values() for update in tally.by)
    assert set(counted) == set(telegram.chats), "none is lost"
    assert sum(counted.values()) > len(telegram.chats)
