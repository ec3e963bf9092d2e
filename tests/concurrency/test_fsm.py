"""FSM states in several processes: no update is lost, and a state agrees with its data after `kill -9`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from aiogram.fsm.storage.base import StorageKey
from fsm_bot import USERS, Options, Tally
from places import KINDS, Place

from chatsession import SessionManager, open_storage
from chatsession.integrations.aiogram import SessionFSMStorage

UPDATES, PROCESSES, IN_FLIGHT = 2_000, 4, 50


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    kind = KINDS[request.param]
    return Place(kind.url(request), kind.effort, kind.lease)


async def start(
    place: Place, folder: Path, lease: float, updates: int, *, with_session: bool = False
) -> asyncio.subprocess.Process:
    prefix = f"{folder.name}:"  # servers are shared by all tests
    options = Options(place.url, prefix, str(folder), PROCESSES, updates, IN_FLIGHT, lease, with_session)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("fsm_bot.py")),
        msgspec.json.encode(options).decode(),
        stdout=asyncio.subprocess.PIPE,
    )


def acknowledged(folder: Path) -> Counter[int]:
    """How many updates of each user were done."""
    return Counter(int(line) for file in folder.glob("*.done") for line in file.read_bytes().splitlines())


async def stored(place: Place, folder: Path) -> tuple[dict[int, int], dict[int, str | None], dict[int, int]]:
    """By user: the count in the data, the state, and the count in the session."""
    storage, prefix = open_storage(place.url), f"{folder.name}:"
    fsm = SessionFSMStorage(storage, prefix=prefix)
    sessions = SessionManager(Tally, storage=storage, prefix=f"{prefix}session:")
    keys = {user: StorageKey(bot_id=42, chat_id=user, user_id=user) for user in range(1, USERS + 1)}
    counts = {user: await fsm.get_value(key, "count", 0) for user, key in keys.items()}
    states = {user: await fsm.get_state(key) for user, key in keys.items()}
    tallies = {int(key): tally.count async for key, tally in sessions.entries()}
    await fsm.close()
    await sessions.aclose()
    return counts, states, tallies


async def test_the_sums_are_exact(place: Place, tmp_path: Path) -> None:
    bots = await start(place, tmp_path, 20.0, UPDATES)
    assert await bots.wait() == 0
    counts, states, _ = await stored(place, tmp_path)
    assert counts == acknowledged(tmp_path) == dict.fromkeys(counts, UPDATES // USERS)
    assert states == {user: f"counted:{count}" for user, count in counts.items()}


@pytest.mark.parametrize("with_session", [False, True], ids=["alone", "with a session"])
async def test_kill_9_leaves_state_and_data_in_agreement(place: Place, tmp_path: Path, with_session: bool) -> None:
    bots = await start(place, tmp_path, place.lease, UPDATES // 2, with_session=with_session)
    assert bots.stdout is not None
    victims = [int(await bots.stdout.readline()) for _ in range(PROCESSES)][:2]
    async with asyncio.timeout(300):
        for victim in victims:
            while acknowledged(tmp_path).total() < UPDATES // 16:
                assert bots.returncode is None
                await asyncio.sleep(0.001)
            os.kill(victim, signal.SIGKILL)
        await bots.wait()
    counts, states, tallies = await stored(place, tmp_path)
    done = acknowledged(tmp_path)
    assert states == {user: f"counted:{count}" if count else None for user, count in counts.items()}
    # Of each killed process, what was under way may have been stored before anybody was told.
    assert all(done[user] <= count <= done[user] + len(victims) * IN_FLIGHT for user, count in counts.items())
    assert sum(counts.values()) < UPDATES // 2
    if with_session:
        assert tallies == {user: count for user, count in counts.items() if count}
