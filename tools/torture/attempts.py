"""What a worker tries, written down before it happens, and what it knows of it afterwards."""

from __future__ import annotations

import asyncio
import time
from itertools import count

from chatsession.errors import SessionError, StorageUnavailableError
from tools.histories.counting import Counter
from tools.histories.history import HistoryFile
from tools.histories.updates import Effect, Fate, State


class HandlerFailedError(Exception):
    """What a handler raises on purpose; nothing may be written then."""


EXPECTED = (SessionError, HandlerFailedError, asyncio.CancelledError)
"""All that a caller may ever see."""


class Attempt:
    """One update of one key."""

    __slots__ = ("_effect", "_history", "_id", "asked", "ended", "key", "leaving")

    def __init__(self, history: HistoryFile, name: str, key: str, effect: Effect, asked: float) -> None:
        self._history = history
        self._id = name
        self._effect = effect
        self.key = key
        self.leaving = False
        """The handler is through, and from now on something may be written."""
        self.ended = False
        self.asked = asked
        history.started(name, key, effect, asked)

    @property
    def changes(self) -> bool:
        """Is it more than a look?"""
        return self._effect is not Effect.NOTHING

    def read(self, found: Counter) -> Counter:
        """Write down what was found, and give what shall be stored instead."""
        self._history.read(self._id, State(found.count, found.by))
        return Counter(found.count + 1, self._id)

    def committed(self) -> None:
        """It is stored."""
        self.ended = True
        self._history.committed(self._id)

    def failed(self, error: BaseException, fate: Fate) -> None:
        """It ended with an error."""
        self.ended = True
        self._history.failed(self._id, error, fate)


class Attempts:
    """All attempts of one operation, which end together unless one ended before."""

    __slots__ = ("_history", "_names", "_open", "changed")

    def __init__(self, history: HistoryFile, names: Names) -> None:
        self._history = history
        self._names = names
        self._open: list[Attempt] = []
        self.changed = 0

    def begin(self, key: str, effect: Effect = Effect.COUNT, behind: Attempt | None = None) -> Attempt:
        """One more; called before anything is asked of a session, or behind another one of the same open session."""
        asked = time.monotonic() if behind is None else behind.asked
        attempt = Attempt(self._history, self._names.next(), key, effect, asked)
        self._open.append(attempt)
        return attempt

    def leave(self) -> None:
        """The handler is through."""
        for attempt in self._open:
            attempt.leaving = True

    def commit(self) -> None:
        """All of them were acknowledged."""
        for attempt in self._open:
            attempt.committed()
            self.changed += attempt.changes
        self._open.clear()

    def fail(self, error: BaseException) -> None:
        """The operation ended with this error."""
        several = len(self._open) > 1
        for attempt in self._open:
            attempt.failed(error, _fate(attempt, error, several))
        self._open.clear()


class Names:
    """Ids of updates: no two have the same."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._numbers = count()

    def next(self) -> str:
        """One that was never given."""
        return f"{self._worker}:{next(self._numbers)}"


def _fate(attempt: Attempt, error: BaseException, several: bool) -> Fate:
    if not attempt.leaving:
        return Fate.REFUSED  # rule 5: whatever ended the handler, nothing is written
    if not isinstance(error, SessionError) or isinstance(error, StorageUnavailableError):
        return Fate.UNKNOWN  # a cancellation takes effect once the outcome is known, but does not tell it
    if several and error.key != attempt.key:
        return Fate.UNKNOWN  # of several that end together, only one tells
    return Fate.REFUSED  # conflicts and errors of the storage promise that nothing was written
