"""Groups become supergroups while several processes handle updates of both ids, and some are killed half-way.

grammY's documentation says that there is no safe way to do this; here is one (rule 18).
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec
import pytest
from moving_worker import Options, Tally, Update, manager
from places import KINDS

HERE = Path(__file__).parent
STEPS = (1, 2, 3, 4)
"""Before each of them somebody dies, in a group of its own."""
GROUPS = len(STEPS) + 4
"""The others' two service messages are handled by whoever comes first."""


def old(group: int) -> int:
    return -(group + 1)


def new(group: int) -> int:
    return -1000000000001 - group


class Worker:
    """One process; an async context manager."""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def __aenter__(self) -> Self:
        self._log = Path(f"{self.options.history}.log").open("wb")  # noqa: ASYNC230, SIM115 - closed below
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "moving_worker.py"),
            msgspec.json.encode(self.options).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._log.close()

    async def hear(self, words: str) -> None:
        assert self._process.stdout is not None
        heard = (await asyncio.wait_for(self._process.stdout.readline(), 300)).decode().strip()
        assert heard == words, Path(f"{self.options.history}.log").read_text()[-3000:]  # noqa: ASYNC240 - it failed

    async def tell(self, updates: list[Update]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(updates) + b"\n")
        await self._process.stdin.drain()

    async def died(self) -> None:
        assert await asyncio.wait_for(self._process.wait(), 300) == -signal.SIGKILL, "it did not get into its move"


class Telegram:
    """Makes updates, and remembers which."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sent: dict[int, Update] = {}

    def make(self, chat: int, *, moved_from: int | None = None, moved_to: int | None = None) -> Update:
        update = Update(len(self.sent), chat, moved_from, moved_to)
        self.sent[update.id] = update
        return update

    def messages(self, count: int, *, of_old: bool = True) -> list[Update]:
        """Messages of all groups, under either id."""
        ids = [chat(group) for group in range(GROUPS) for chat in ((old, new) if of_old else (new,))]
        return [self.make(self.random.choice(ids)) for _ in range(count)]

    def moves(self, *groups: int) -> list[Update]:
        """Both service messages of each."""
        made = [self.make(old(group), moved_to=new(group)) for group in groups]
        made += [self.make(new(group), moved_from=old(group)) for group in groups]
        return made

    def mixed(self, *updates: Update) -> list[Update]:
        return self.random.sample(updates, len(updates))


@pytest.mark.parametrize(
    ("kind", "everything"),
    [("sqlite", False), ("sqlite", True), ("file", False), ("redis", False), ("postgresql", False)],
)
async def test_no_update_of_a_group_that_moves_is_lost(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, everything: bool
) -> None:
    share = {"sqlite": 60, "redis": 40}.get(kind, 15)
    plain = Options(
        url=KINDS[kind].url(request),
        prefix=f"{uuid4().hex}:",
        history=str(tmp_path / "0"),
        lock_lease=KINDS[kind].lease,
        everything=everything,
    )
    workers = [
        Worker(msgspec.structs.replace(plain, history=str(tmp_path / str(n)), die_at=step))
        for n, step in enumerate((None, None, *STEPS))
    ]
    survivors, victims = workers[:2], workers[2:]
    telegram = Telegram(seed=len(kind))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(survivors[0])
        await survivors[0].hear("ready")  # it makes what the others find
        await survivors[0].tell([telegram.make(old(group)) for group in range(GROUPS)])
        await asyncio.gather(*map(stack.enter_async_context, workers[1:]))
        await asyncio.gather(survivors[0].hear("done"), *(worker.hear("ready") for worker in workers[1:]))

        for survivor in survivors:
            await survivor.tell(telegram.messages(share))
        for group, victim in enumerate(victims):
            messages = telegram.mixed(*telegram.messages(share // 2))
            await victim.tell([*messages[:10], telegram.random.choice(telegram.moves(group)), *messages[10:]])
        await asyncio.gather(*(victim.died() for victim in victims))
        await asyncio.gather(*(survivor.hear("done") for survivor in survivors))

        again = list(telegram.sent.values()) if everything else []
        for survivor in survivors:  # all service messages in any order, and each more than once
            await survivor.tell(telegram.mixed(*telegram.moves(*range(GROUPS)), *telegram.messages(share), *again))
        await asyncio.gather(*(survivor.hear("done") for survivor in survivors))

    handled = {int(line) for n in range(len(workers)) for line in _lines(tmp_path / str(n))}
    await _check(telegram, handled, plain)


def _lines(path: Path) -> list[str]:
    return path.read_text().split()


async def _check(telegram: Telegram, handled: set[int], options: Options) -> None:
    async with manager(options) as sessions:
        found = {key: tally async for key, tally in sessions.entries()}
        assert set(found) == {str(new(group)) for group in range(GROUPS)}
        for group in range(GROUPS):
            tally = found[str(new(group))]
            there = {update.id for update in telegram.sent.values() if update.chat in (old(group), new(group))}
            assert len(set(tally.by)) == len(tally.by) == tally.count, "an update counts twice"
            assert set(tally.by) <= there, "an update of another group is here"
            assert there & handled <= set(tally.by), "an acknowledged update is lost"
            assert len(tally.by) - len(there & handled) <= 4 * 10, "more than was in flight when processes died"

            async with sessions.open(old(group)) as session:
                assert session.data == tally
                session.data = Tally(tally.count + 1, [*tally.by, -1])
            assert await sessions.get(new(group)) == Tally(tally.count + 1, [*tally.by, -1])
