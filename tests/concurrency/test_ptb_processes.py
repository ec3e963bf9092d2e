"""python-telegram-bot's data and conversations in several processes that share a storage, one of which is killed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from places import KINDS, Place

from chatsession.storages import Record, open_storage

HERE = Path(__file__).parent
UPDATES, PROCESSES = 2_000, 4
MOST_IN_FLIGHT = 50


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    kind = KINDS[request.param]
    return Place(kind.url(request), kind.effort, kind.lease)


class Bots:
    """All processes, and what they say.

    Args:
        place: the storage.
        lease: seconds of a lock.
        kill_after: so many updates of the first process; it is killed then.
    """

    def __init__(self, place: Place, *, lease: float, kill_after: int | None = None) -> None:
        self.done: Counter[int] = Counter()
        """Updates that were acknowledged, by user."""
        self.errors: list[str] = []
        self._place = place
        self._lease = lease
        self._kill_after = kill_after
        self._prefix = f"{uuid4().hex}:"

    @property
    def done_in_groups(self) -> Counter[int]:
        groups: Counter[int] = Counter()
        for user, times in self.done.items():
            groups[-100 - user % 5] += times
        return groups

    async def run(self) -> None:
        """Until all are done."""
        async with asyncio.timeout(300), asyncio.TaskGroup() as group:
            for number in range(PROCESSES):
                group.create_task(self._run(number))

    async def _run(self, number: int) -> None:
        share = int(UPDATES * self._place.effort) // PROCESSES
        options = [self._place.url, self._prefix, str(share), str(number), str(self._lease)]
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, str(HERE / "ptb_worker.py"), *options], stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        done = 0
        try:
            while line := await process.stdout.readline():
                word, _, rest = line.decode().strip().partition(" ")
                if word == "done":
                    self.done[int(rest)] += 1
                    done += 1
                    if number == 0 and done == self._kill_after:
                        process.kill()
                elif word == "error":
                    self.errors.append(rest)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def kept(self, id_: int) -> Any:
        """What is stored under an id."""
        async with open_storage(self._place.url) as storage:
            (record,) = await storage.read_many([f"{self._prefix}id:{id_}"])
        assert isinstance(record, Record)
        return msgspec.json.decode(record.value)


async def test_the_sums_of_all_users_are_exact(place: Place) -> None:
    bots = Bots(place, lease=20)
    await bots.run()
    assert bots.errors == []
    assert bots.done.total() == int(UPDATES * place.effort) // PROCESSES * PROCESSES
    for user, times in bots.done.items():
        assert (await bots.kept(user))["user_data"] == {"count": times}
    for group, times in bots.done_in_groups.items():
        assert (await bots.kept(group))["chat_data"] == {"count": times}


async def test_kill_9_leaves_state_and_data_of_each_user_in_agreement(place: Place) -> None:
    bots = Bots(place, lease=place.lease, kill_after=50)
    await bots.run()
    for user, done in bots.done.items():
        kept = await bots.kept(user)
        counted = kept["user_data"]["count"]
        (state,) = kept["conversations"]["parity"].values()
        assert state == ("odd" if counted % 2 else "even"), f"user {user}: state and data tell of different updates"
        assert done <= counted <= done + MOST_IN_FLIGHT, f"user {user}: {done} updates were acknowledged"
