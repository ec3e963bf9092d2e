"""The order in which the updates of a chat ask for their sessions in the threads of a `TeleBot`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

_CHECK_INTERVAL = 0.1
"""Seconds between two checks whether the bot's threads still run."""


class Turn:
    """The place of an update among those of its chat.

    The threads of a bot take updates in order, but one may overtake another before they ask for their sessions.
    """

    __slots__ = ("_passed", "_previous")

    def __init__(self, previous: Turn | None = None) -> None:
        self._previous = previous
        self._passed = threading.Event()

    def wait(self) -> None:
        """Return when the previous update of the chat waits for its session, has it, or is done."""
        if self._previous is not None:
            self._previous._passed.wait()
            self._previous = None

    def pass_on(self) -> None:
        """Let the next update of the chat ask for its session."""
        self._passed.set()

    @property
    def passed(self) -> bool:
        """Whether the next update may ask."""
        return self._passed.is_set()


class Turns:
    """The updates that the threads of a bot have been given and have not finished."""

    def __init__(self) -> None:
        self._unfinished = 0
        self._last: dict[int | None, Turn] = {}
        """The last turn of each chat."""
        self._lock = threading.Condition()

    @contextmanager
    def next(self, chat: int | None) -> Generator[Turn]:
        """The next turn of a chat, which lasts until `end`. The update is put into the bot's queue in this block.

        Nothing else is put into the queue meanwhile. Were two updates of a chat there in another order than that of
        their turns, the first would wait for the second, and could keep the only thread that could handle it.
        """
        with self._lock:
            turn = self._last[chat] = Turn(None if chat is None else self._last.get(chat))
            self._unfinished += 1
            yield turn

    def end(self, chat: int | None, turn: Turn) -> None:
        """The update is done."""
        turn.pass_on()
        with self._lock:
            if self._last.get(chat) is turn:
                del self._last[chat]
            self._unfinished -= 1
            self._lock.notify_all()

    def wait(self, timeout: float, running: Callable[[], bool]) -> None:
        """Wait until all updates are done, the bot's threads have ended, or `timeout` seconds have passed."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while self._unfinished and running() and time.monotonic() < deadline:
                self._lock.wait(_CHECK_INTERVAL)
