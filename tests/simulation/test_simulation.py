"""Thousands of schedules of the core: whatever is delayed, lost, stalled, cancelled or killed, no update is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated import LEASE, Faults, Server, SimulatedStorage, run

from chatsession import SessionError, SessionFlavor, SessionManager

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "8"))
"""Of each kind of world; `make torture` runs thousands."""

WORLDS = {
    "quiet": Faults(),
    "refusing": Faults(refused=0.05),
    "forgetful": Faults(lost_answer=0.05),
    "stalling": Faults(stall=0.02, delay=0.2),
    "all at once": Faults(refused=0.02, lost_answer=0.02, stall=0.01, delay=0.3),
}


@dataclass
class Work:
    """What the workers of a world did: the numbers of their updates, by what became of them."""

    random: Random
    done: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """With what each saw before itself."""
    failed: set[int] = field(default_factory=set[int])
    unknown: set[int] = field(default_factory=set[int])
    numbers: int = 0

    async def update(self, sessions: SessionManager[list[int]], key: str) -> None:
        """One update adds its number; now and then it fails, takes long, or opens another session, too."""
        self.numbers += 1
        number, random, seen = self.numbers, self.random, list[int]()
        entered = False
        try:
            async with sessions.open(key) as s:
                entered = True
                seen = list(s.data)
                await asyncio.sleep(random.choice((0, 0, 0.01, 1, 1.5 * LEASE)))
                s.data.append(number)
                if random.random() < 0.1:
                    await s.save()
                if random.random() < 0.1:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            self.unknown.add(number)  # `save` may have stored it
        except (SessionError, asyncio.CancelledError) as error:
            (self.unknown if entered else self.failed).add(number)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            self.done[number] = seen

    def check(self, stored: list[int]) -> None:
        """Can what is stored be explained by running the updates one after another?"""
        assert len(set(stored)) == len(stored), "an update was applied twice"
        places = {number: place for place, number in enumerate(stored)}
        for number, seen in self.done.items():
            assert number in places, f"update {number} was acknowledged and is lost"
            assert stored[: places[number]] == seen, f"update {number} did not see what came before it"
        assert not self.failed & set(stored), "an update that failed was applied"
        assert set(stored) <= set(self.done) | self.unknown


async def world(random: Random, faults: Faults, *, kill: bool, cancel: bool, updates: int = 40) -> None:
    """Three processes, two chats."""
    server = Server(random, faults)
    storages = [SimulatedStorage(server) for _ in range(3)]
    works = {"a": Work(random), "b": Work(random)}
    managers = [SessionManager(list[int], storage=each, lock_lease=LEASE, lock_timeout=500) for each in storages]
    tasks: list[asyncio.Task[None]] = []
    for _ in range(updates):
        key = random.choice("ab")
        tasks.append(asyncio.create_task(works[key].update(random.choice(managers), key)))
        await asyncio.sleep(random.choice((0, 0, 0.01, 0.5)))
        if cancel and random.random() < 0.15:
            random.choice(tasks).cancel()
        if kill and random.random() < 0.03:
            random.choice(storages[1:]).dead = True
    await with_known_version(tasks, storages, managers)
    reader = SessionManager(list[int], storage=server.main)
    for key, work in works.items():
        # What died with its process was under way: nobody knows.
        work.unknown |= set(range(work.numbers + 1)) - set(work.done) - work.failed
        work.check(await reader.get(key) or [])


async def with_known_version(
    tasks: list[asyncio.Task[None]], storages: list[SimulatedStorage], managers: list[SessionManager[Any]]
) -> None:
    """Wait for all that can still end, and look whether those who live hold nothing any more."""
    alive = [manager for manager, storage in zip(managers, storages, strict=True) if not storage.dead]
    if len(alive) == len(managers):
        await asyncio.wait(tasks)
    else:
        await asyncio.wait(tasks, timeout=3000)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
    for manager in alive:
        assert manager.runtime.active == 0, "a session is still open"
        await manager.aclose(timeout=100)
        coordinator = manager.runtime.coordinator
        assert not coordinator.queue._holders, "a turn was not passed on"


@pytest.mark.parametrize("faults", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize(("kill", "cancel"), [(False, False), (False, True), (True, True)])
def test_no_update_is_lost_in_any_schedule(faults: Faults, kill: bool, cancel: bool) -> None:
    for seed in range(SEEDS):
        try:
            run(lambda seed=seed: world(Random(seed), faults, kill=kill, cancel=cancel))  # type: ignore[misc]
        except BaseException as error:
            error.add_note(f"in the world of seed {seed}")
            raise


class Drawn(Random):
    """Chance that hypothesis has drawn, and shrinks; when it is used up, nothing goes wrong any more."""

    def __init__(self, drawn: list[float]) -> None:
        super().__init__(0)
        self._drawn = iter(drawn)

    def random(self) -> float:
        return next(self._drawn, 0.5)

    def choice(self, seq: Any) -> Any:
        return seq[int(self.random() * len(seq))]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=150))
def test_the_shortest_schedule_that_fails_is_shown(drawn: list[float]) -> None:
    """As above, with chance in hypothesis' hands."""
    run(lambda: world(Drawn(drawn), WORLDS["all at once"], kill=False, cancel=True, updates=6))


async def moving_world(random: Random, faults: Faults) -> None:
    """A group becomes a supergroup in three processes at once, with updates of both ids under way."""
    server = Server(random, faults)
    storages = [SimulatedStorage(server) for _ in range(3)]
    managers = [
        SessionManager(list[int], storage=each, lock_lease=LEASE, lock_timeout=500, merge=lambda old, new: old + new)
        for each in storages
    ]
    work = Work(random)

    async def move(sessions: SessionManager[list[int]]) -> None:
        with contextlib.suppress(SessionError):  # Telegram says it again
            await sessions.move("-5", "-1005")

    tasks: list[asyncio.Task[None]] = []
    for number in range(30):
        sessions = random.choice(managers)
        key = "-5" if number < 8 else random.choice(("-5", "-1005"))
        tasks.append(asyncio.create_task(work.update(sessions, key)))
        if number > 5 and random.random() < 0.2:
            tasks.append(asyncio.create_task(move(random.choice(managers))))
        if random.random() < 0.02:
            random.choice(storages[1:]).dead = True
        await asyncio.sleep(random.choice((0, 0, 0.01, 0.5)))
    await with_known_version(tasks, storages, managers)
    server.faults.refused = server.faults.lost_answer = server.faults.stall = 0
    async with SessionManager(list[int], storage=SimulatedStorage(server), merge=lambda old, new: old + new) as last:
        await last.move("-5", "-1005")
        stored = await last.get("-1005") or []
        assert await last.get("-5") == stored or not stored
        assert [key async for key in last.keys()] == (["-1005"] if stored else [])  # noqa: SIM118 - no dict's
    assert len(set(stored)) == len(stored), "an update was applied twice"
    assert set(work.done) <= set(stored), "an acknowledged update is lost"
    assert not work.failed & set(stored)


@pytest.mark.parametrize("faults", WORLDS.values(), ids=WORLDS)
def test_a_moving_chat_loses_nothing_in_any_schedule(faults: Faults) -> None:
    for seed in range(SEEDS):
        try:
            run(lambda seed=seed: moving_world(Random(seed), Faults(**vars(faults))))  # type: ignore[misc]
        except BaseException as error:
            error.add_note(f"in the world of seed {seed}")
            raise


class Update(SessionFlavor[list[int]]):
    def __init__(self, update_id: int) -> None:
        self.chat_id = 1
        self.update_id = update_id


async def redelivering_world(random: Random, faults: Faults) -> None:
    """Each update is delivered until it was acknowledged, and sometimes once more."""
    server = Server(random, faults)
    storages = [SimulatedStorage(server) for _ in range(3)]
    managers = [
        SessionManager(list[int], storage=each, lock_lease=LEASE, lock_timeout=500, deduplicate=50) for each in storages
    ]

    async def handle(sessions: SessionManager[list[int]], number: int) -> bool:
        ctx = Update(number)

        async def handler() -> None:
            await asyncio.sleep(random.choice((0, 0.1, 1)))
            ctx.session.append(ctx.update_id)

        try:
            await sessions.middleware()(ctx, handler)
        except SessionError:
            return False
        return True

    async def deliver(number: int) -> None:
        wanted = random.choice((1, 1, 2))
        while wanted:
            sessions = random.choice([m for m, s in zip(managers, storages, strict=True) if not s.dead])
            attempt = asyncio.create_task(handle(sessions, number))
            attempts.append(attempt)
            done, _ = await asyncio.wait([attempt], timeout=random.choice((5, 100)))  # Telegram's retry_for
            wanted -= bool(done) and attempt.result()

    attempts: list[asyncio.Task[bool]] = []
    tasks: list[asyncio.Task[None]] = []
    for number in range(20):
        tasks.append(asyncio.create_task(deliver(number)))
        await asyncio.sleep(random.choice((0, 0, 0.01, 0.5)))
        if random.random() < 0.03:
            random.choice(storages[1:]).dead = True
    await asyncio.wait(tasks)
    for task in tasks:
        task.result()
    await asyncio.wait(attempts, timeout=500)
    stored = await SessionManager(list[int], storage=server.main).get(1)
    assert sorted(stored or []) == list(range(20))


@pytest.mark.parametrize("faults", WORLDS.values(), ids=WORLDS)
def test_each_update_counts_once_in_any_schedule(faults: Faults) -> None:
    for seed in range(SEEDS):
        try:
            run(lambda seed=seed: redelivering_world(Random(seed), faults))  # type: ignore[misc]
        except BaseException as error:
            error.add_note(f"in the world of seed {seed}")
            raise
