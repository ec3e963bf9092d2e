"""A steady load of all that updates do: count, look, delete, expire, fail, be cancelled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from chatsession import SessionFlavor, SessionManager
from chatsession.storages import Storage

LANES = 8
TTL = 60.0
_CHATS = 50
_KINDS = ("count", "look", "delete", "new", "again", "fail", "cancel")
_SHARES = (40, 25, 10, 15, 5, 3, 2)


class BrokenOnPurposeError(Exception):
    """What a handler raises to see that nothing is left of it."""


@dataclass
class Chat:
    """About 300 bytes."""

    count: int = 0
    text: str = "x" * 280


class Context(SessionFlavor[Chat]):
    """An update's context."""

    def __init__(self, chat_id: str) -> None:
        self.chat_id = chat_id


@dataclass
class Tally:
    """What happened since the last sample, and what was counted since the beginning."""

    latencies: list[float] = field(default_factory=list[float])
    errors: int = 0
    last_error: str = ""
    updates: int = 0
    counted: int = 0


class Load:
    """Updates of a few chats that stay and of many that come and expire, one after another in each of some lanes.

    Args:
        storage: is open.
        seed: of the choice of updates.
    """

    def __init__(self, storage: Storage, seed: int = 0) -> None:
        self.storage = storage
        self.tally = Tally()
        self._random = random.Random(seed)
        self._staying = SessionManager(Chat, storage=storage, prefix="stays:")
        self._expiring = SessionManager(Chat, storage=storage, prefix="expires:", ttl=TTL)
        self._stays, self._expires = self._staying.middleware(), self._expiring.middleware()
        self._new = 0
        self._going = asyncio.Event()
        self._going.set()
        self._busy = 0
        self._idle = asyncio.Event()

    async def run(self, rate: float, seconds: float) -> None:
        """Make `rate` updates per second, for so long."""
        async with asyncio.TaskGroup() as lanes:
            for number in range(LANES):
                lanes.create_task(self._lane(rate / LANES, number / rate, seconds))

    async def rest(self) -> None:
        """Let nobody begin an update, and return when all that were begun are done; until `go`."""
        self._going.clear()
        while self._busy:
            self._idle.clear()
            await self._idle.wait()

    def go(self) -> None:
        """Go on."""
        self._going.set()

    async def step(self) -> None:
        """One update."""
        (kind,) = self._random.choices(_KINDS, _SHARES)
        begin = time.perf_counter()
        try:
            await self._update(kind)
        except Exception as error:  # whatever it is, it is counted, and the load goes on
            self.tally.errors += 1
            self.tally.last_error = f"{type(error).__name__}: {error}"
        self.tally.latencies.append(time.perf_counter() - begin)
        self.tally.updates += 1

    async def check(self) -> str:
        """Say what the counts that are stored add up to, and whether that is what was counted."""
        stored = 0
        for number in range(_CHATS):
            chat = await self._staying.get(f"count-{number}")
            stored += chat.count if chat else 0
        return f"{stored} counted, {self.tally.counted} expected: {'ok' if stored == self.tally.counted else 'WRONG'}"

    async def stored(self) -> int:
        """How many sessions the storage gives."""
        total, cursor = 0, None
        while True:
            keys, cursor = await self.storage.scan_keys("", cursor, 500)
            total += len(keys)
            if cursor is None:
                return total

    async def close(self) -> None:
        """End the managers; the storage stays open."""
        await self._staying.aclose()
        await self._expiring.aclose()

    async def _lane(self, rate: float, offset: float, seconds: float) -> None:
        begin = time.monotonic() + offset
        due = begin
        while due < begin + seconds:
            await asyncio.sleep(due - time.monotonic())
            await self._going.wait()
            self._busy += 1
            try:
                await self.step()
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()
            due = max(due + 1 / rate, time.monotonic() - 1)  # after a long pause, not all of it is caught up with

    async def _update(self, kind: str) -> None:
        number = self._random.randrange(_CHATS)
        if kind == "count":
            await self._stays(context := Context(f"count-{number}"), _counting(context))
            self.tally.counted += 1
        elif kind == "look":
            await self._stays(context := Context(f"count-{number}"), _looking(context))
        elif kind == "delete":
            await self._stays(context := Context(f"gone-{number}"), _deleting_every_other(context))
        elif kind == "new":
            self._new += 1
            await self._expires(context := Context(f"{self._new}"), _counting(context))
        elif kind == "again":
            await self._expires(context := Context(f"{max(1, self._new - number)}"), _counting(context))
        elif kind == "fail":
            with suppress(BrokenOnPurposeError):
                await self._stays(context := Context(f"count-{number}"), _failing(context))
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0, 0.003)):
                    await self._stays(context := Context(f"cancelled-{number}"), _counting(context))


Handler = Callable[[], Awaitable[None]]


def _counting(context: Context) -> Handler:
    async def handler() -> None:
        context.session.count += 1

    return handler


def _looking(context: Context) -> Handler:
    async def handler() -> None:
        assert context.session.count >= 0

    return handler


def _deleting_every_other(context: Context) -> Handler:
    async def handler() -> None:
        if context.session.count:
            context.session = None
        else:
            context.session.count = 1

    return handler


def _failing(context: Context) -> Handler:
    async def handler() -> None:
        context.session.count += 1
        raise BrokenOnPurposeError

    return handler
