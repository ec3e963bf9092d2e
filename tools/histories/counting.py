"""Updates of counters that wait between reading and writing: what loses updates, if anything does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from chatsession.errors import SessionConflictError, SessionError, SessionLockTimeoutError
from chatsession.manager import SessionManager
from tools.histories.history import Fate, HistoryFile, State


@dataclass
class Counter:
    """The session that is counted up."""

    count: int = 0
    by: str = ""
    """The id of the update that wrote it."""


class Tally:
    """How many updates ended how.

    Args:
        tell: is called after each commit with how many there were.
    """

    def __init__(self, tell: Callable[[int], None] | None = None) -> None:
        self.committed = 0
        self.errors: list[str] = []
        self._tell = tell

    def add_commit(self) -> None:
        """One more was acknowledged."""
        self.committed += 1
        if self._tell is not None:
            self._tell(self.committed)


def keys_of_updates(updates: int, keys: int, seed: int = 0) -> list[str]:
    """The keys of so many updates, each key equally often (or nearly so), in random order."""
    chosen = [f"chat:{n % keys}" for n in range(updates)]
    random.Random(seed).shuffle(chosen)
    return chosen


async def count_up(
    sessions: SessionManager[Counter],
    keys: Sequence[str],
    history: HistoryFile,
    *,
    name: str,
    in_flight: int = 200,
    tally: Tally | None = None,
    again: bool = False,
) -> Tally:
    """Make one update for each of the keys, so many at the same time.

    Args:
        sessions: where.
        keys: the keys in their order; the same one may come often.
        history: where everything is written down.
        name: begins the ids of the updates; no two calls have the same.
        in_flight: how many updates are under way at the same time.
        tally: where they are counted, if somebody wants to look meanwhile.
        again: make an update again that was refused by a conflict, as after a stall of this process.
    """
    tally = tally or Tally()
    upcoming = iter([(f"{name}:{n}", key) for n, key in enumerate(keys)])
    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(keys))):
            group.create_task(_count_all(sessions, upcoming, history, tally, again=again))
    return tally


async def count_one(sessions: SessionManager[Counter], update: str, key: str, history: HistoryFile) -> None:
    """Make one update, and write down what became of it.

    Raises:
        SessionError: what the update ended with.
    """
    history.started(update, key)
    try:
        async with sessions.open(key) as session:
            before = session.data
            history.read(update, State(before.count, before.by))
            await _pause()
            session.data = Counter(before.count + 1, update)
    except (SessionConflictError, SessionLockTimeoutError) as error:
        history.failed(update, error, Fate.REFUSED)
        raise
    except SessionError as error:
        history.failed(update, error, Fate.UNKNOWN)
        raise
    history.committed(update)


async def stored_states(sessions: SessionManager[Counter], keys: Iterable[str]) -> dict[str, State]:
    """What is stored now under these keys."""
    found = {key: await sessions.get(key) for key in keys}
    return {key: State(counter.count, counter.by) for key, counter in found.items() if counter is not None}


async def _count_all(
    sessions: SessionManager[Counter],
    upcoming: Iterable[tuple[str, str]],
    history: HistoryFile,
    tally: Tally,
    *,
    again: bool,
) -> None:
    for update, key in upcoming:
        try:
            await _count_one(sessions, update, key, history, again=again)
        except SessionError as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        else:
            tally.add_commit()


async def _count_one(
    sessions: SessionManager[Counter], update: str, key: str, history: HistoryFile, *, again: bool
) -> None:
    while True:
        try:
            return await count_one(sessions, update, key, history)
        except SessionConflictError:
            if not again:
                raise
            update += "+"


async def _pause() -> None:
    """As handlers do: most only let others in, some wait for something."""
    await asyncio.sleep(random.uniform(0, 0.002) if random.random() < 0.05 else 0)
