"""Random load: what handlers of many chats do, a hot chat and a long tail, at the same time."""

from __future__ import annotations

import asyncio
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import TypeAlias

from chatsession import Session
from chatsession.manager import SessionManager
from tools.histories.counting import Counter
from tools.histories.history import HistoryFile
from tools.histories.updates import Effect
from tools.torture.attempts import EXPECTED, Attempt, Attempts, HandlerFailedError, Names
from tools.torture.messages import Keys

Operation: TypeAlias = Callable[["Load", "Chat", Attempts], Awaitable[None]]


class Chat:
    """One key of one kind of session."""

    __slots__ = ("full", "key", "sessions")

    def __init__(self, sessions: SessionManager[Counter], key: str) -> None:
        self.sessions = sessions
        self.key = key
        self.full = sessions.options.prefix + key


class Lane:
    """One of the tasks that do one operation after another."""

    def __init__(self, pick: Callable[[], Chat], operations: dict[Operation, float]) -> None:
        self.pick = pick
        self.operations = list(operations)
        self.weights = list(accumulate(operations.values()))
        self.task: asyncio.Task[None] | None = None
        self.since: float | None = None
        """When the operation under way began."""


class Load:
    """Operations on sessions, many at the same time, each written down.

    Args:
        lasting: sessions that stay.
        expiring: sessions with a time to live.
        optimistic: sessions that are not locked, and not deleted.
        history: where everything is written down.
        name: of this worker.
        keys: which chats there are.
        lease: seconds of a lock's lease; some handlers work for longer.
        seed: of what is drawn.
    """

    def __init__(
        self,
        lasting: SessionManager[Counter],
        expiring: SessionManager[Counter],
        optimistic: SessionManager[Counter],
        history: HistoryFile,
        *,
        name: str,
        keys: Keys,
        lease: float,
        seed: int,
    ) -> None:
        self._history = history
        self._names = Names(name)
        self._lease = lease
        self._random = random.Random(seed)
        self._stopping = False
        self._hot = [Chat(lasting, key) for key in keys.hot]
        self._tail = [Chat(lasting, key) for key in keys.tail]
        self._expiring = [Chat(expiring, key) for key in keys.few]
        self._optimistic = [Chat(optimistic, key) for key in keys.few]
        self._lanes: list[Lane] = []
        self.changed = 0
        self.ended = 0

    def start(self, in_flight: int) -> None:
        """Begin; a tenth each of what is under way is in the hot chat, has a time to live, and is not locked."""
        self._stopping = False
        part = max(1, in_flight // 10)
        picks = [*[self._pick_hot] * part, *[self._pick_expiring] * part, *[self._pick_tail] * (in_flight - 3 * part)]
        self._lanes = [Lane(pick, _OPERATIONS) for pick in picks]
        self._lanes += [Lane(self._pick_optimistic, _WITHOUT_DELETION) for _ in range(part)]
        for lane in self._lanes:
            lane.task = asyncio.create_task(self._run(lane))

    def cancel(self, count: int) -> None:
        """Cancel so many of the handlers under way, wherever they are."""
        for lane in self._random.sample(self._lanes, min(count, len(self._lanes))):
            if lane.task is not None:
                lane.task.cancel()

    def oldest(self) -> float:
        """For how many seconds the longest operation has been under way."""
        now = time.monotonic()
        return max((now - lane.since for lane in self._lanes if lane.since is not None), default=0.0)

    async def finish(self, seconds: float) -> int:
        """Let what is under way come to its end; gives how many operations do not, and shows where they are."""
        self._stopping = True
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        if not tasks:
            return 0
        _, hung = await asyncio.wait(tasks, timeout=seconds)
        for task in hung:
            task.print_stack(file=sys.stderr)
        return len(hung)

    async def abort(self) -> None:
        """Cancel what is under way, and wait for it."""
        self._stopping = True
        self.cancel(len(self._lanes))
        await self.finish(10)

    async def look_at_all(self) -> dict[str, Counter]:
        """What is stored now, under all keys; each look is a part of the history."""
        found: dict[str, Counter] = {}
        for chat in (*self._hot, *self._tail, *self._expiring, *self._optimistic):
            attempts = Attempts(self._history, self._names)
            attempt = attempts.begin(chat.full, Effect.NOTHING)
            counter = await chat.sessions.get(chat.key)
            attempt.read(counter or Counter())
            attempts.commit()
            if counter is not None:
                found[chat.full] = counter
        return found

    def _pick_hot(self) -> Chat:
        return self._random.choice(self._hot)

    def _pick_tail(self) -> Chat:
        return self._tail[int(len(self._tail) * self._random.random() ** 2)]

    def _pick_expiring(self) -> Chat:
        return self._random.choice(self._expiring)

    def _pick_optimistic(self) -> Chat:
        return self._random.choice(self._optimistic)

    async def _run(self, lane: Lane) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self._stopping:
            try:
                if not await self._do_one(lane):
                    await asyncio.sleep(self._random.uniform(0.005, 0.05))
            except asyncio.CancelledError:
                task.uncancel()

    async def _do_one(self, lane: Lane) -> bool:
        (operation,) = self._random.choices(lane.operations, cum_weights=lane.weights)
        attempts = Attempts(self._history, self._names)
        lane.since = time.monotonic()
        try:
            await operation(self, lane.pick(), attempts)
        except BaseException as error:
            attempts.fail(error)
            if not isinstance(error, EXPECTED):
                traceback.print_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return isinstance(error, HandlerFailedError)
        else:
            attempts.commit()
            return True
        finally:
            lane.since = None
            self.ended += 1
            self.changed += attempts.changed

    async def _pause(self) -> None:
        """As handlers do: most only let others in, some wait for something, few for longer than the lease."""
        chance = self._random.random()
        if chance > 0.05:
            await asyncio.sleep(0)
        elif chance > 0.0001:
            await asyncio.sleep(self._random.uniform(0, 0.005))
        else:
            await asyncio.sleep(self._random.uniform(0, 1.5 * self._lease))

    async def _count(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full)
        async with chat.sessions.open(chat.key) as session:
            counted = attempt.read(session.data)
            await self._pause()
            session.data = counted
            attempts.leave()

    async def _change_in_place(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full)
        async with chat.sessions.open(chat.key) as session:
            counted = attempt.read(session.data)
            session.data.count = counted.count
            await self._pause()
            session.data.by = counted.by
            attempts.leave()

    async def _fail(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full)
        async with chat.sessions.open(chat.key) as session:
            session.data = attempt.read(session.data)
            await self._pause()
            raise HandlerFailedError

    async def _look(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full, Effect.NOTHING)
        async with chat.sessions.open(chat.key) as session:
            attempt.read(session.data if session.exists else Counter())
            await self._pause()
            attempts.leave()

    async def _get(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full, Effect.NOTHING)
        attempt.read(await chat.sessions.get(chat.key) or Counter())

    async def _delete(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full, Effect.DELETE)
        async with chat.sessions.open(chat.key) as session:
            attempt.read(session.data if session.exists else Counter())
            await self._pause()
            session.data = None
            attempts.leave()

    async def _delete_and_create(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full, Effect.DELETE)
        async with chat.sessions.open(chat.key) as session:
            attempt.read(session.data if session.exists else Counter())
            session.data = None
            await self._save_and_count(session, attempt, attempts)

    async def _save(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full)
        async with chat.sessions.open(chat.key) as session:
            session.data = attempt.read(session.data)
            await self._save_and_count(session, attempt, attempts)

    async def _save_and_count(self, session: Session[Counter], attempt: Attempt, attempts: Attempts) -> None:
        """Commit what was changed, and count up behind it in the same open session."""
        attempts.leave()
        await session.save()
        attempts.commit()
        counted = attempts.begin(attempt.key, behind=attempt).read(session.data or Counter())
        await self._pause()
        session.data = counted
        attempts.leave()

    async def _release(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full)
        async with chat.sessions.open(chat.key) as session:
            session.data = attempt.read(session.data)
            attempts.leave()
            await session.release()
            attempts.commit()
            await self._pause()

    async def _update(self, chat: Chat, attempts: Attempts) -> None:
        attempt = attempts.begin(chat.full)

        async def counted(found: Counter) -> Counter:
            attempt.leaving = False  # it is called again after a conflict
            counted = attempt.read(found)
            await self._pause()
            attempts.leave()
            return counted

        await chat.sessions.update(chat.key, counted)

    async def _open_many(self, chat: Chat, attempts: Attempts) -> None:
        chats = {each.key: each for each in (chat, self._pick_tail(), self._pick_tail())}
        together = [each for each in chats.values() if each.sessions is chat.sessions]
        begun = [attempts.begin(each.full) for each in together]
        async with chat.sessions.open_many([each.key for each in together]) as sessions:
            for attempt, session in zip(begun, sessions, strict=True):
                session.data = attempt.read(session.data)
            await self._pause()
            attempts.leave()


_OPERATIONS: dict[Operation, float] = {
    Load._count: 50,
    Load._change_in_place: 15,
    Load._look: 8,
    Load._get: 5,
    Load._save: 4,
    Load._update: 4,
    Load._delete: 3,
    Load._delete_and_create: 3,
    Load._release: 3,
    Load._open_many: 3,
    Load._fail: 2,
}

_WITHOUT_DELETION = {
    operation: weight
    for operation, weight in _OPERATIONS.items()
    if operation not in (Load._delete, Load._delete_and_create)
}
"""Of what was deleted and made anew while somebody had it open unlocked, nobody could say which life was first."""
