"""The order in which the updates of a chat come to their sessions, and the updates that are not done yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOK = 0.1
"""Seconds after which a bot that stops looks whether its threads are still there."""


class Turn:
    """The place of an update among those of its chat.

    The threads of a pool take updates in order, but may be overtaken before they ask for their session.
    """

    __slots__ = ("_before", "_passed")

    def __init__(self, before: Turn | None = None) -> None:
        self._before = before
        self._passed = threading.Event()

    def wait(self) -> None:
        """Return when the update before this one waits for its session, has it, or is done."""
        if self._before is not None:
            self._before._passed.wait()
            self._before = None

    def pass_on(self) -> None:
        """Let the next update of the chat ask for its session."""
        self._passed.set()

    @property
    def passed(self) -> bool:
        """Whether the next update may ask."""
        return self._passed.is_set()


class Turns:
    """The last turn of each chat."""

    def __init__(self) -> None:
        self._last: dict[int | None, Turn] = {}
        self._lock = threading.Lock()

    def take(self, chat: int | None) -> Turn:
        """The next turn of a chat, which must be given back by `end`."""
        with self._lock:
            before = None if chat is None else self._last.get(chat)
            turn = self._last[chat] = Turn(before)
            return turn

    def end(self, chat: int | None, turn: Turn) -> None:
        """The update is done."""
        turn.pass_on()
        with self._lock:
            if self._last.get(chat) is turn:
                del self._last[chat]


class InFlight:
    """Counts the updates that are not done yet."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def add(self, count: int) -> None:
        """So many more, or fewer."""
        with self._changed:
            self._count += count
            self._changed.notify_all()

    def wait(self, timeout: float, working: Callable[[], bool]) -> None:
        """Wait until all are done, nobody works on them any more, or `timeout` seconds have passed."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._count and working() and time.monotonic() < deadline:
                self._changed.wait(_LOOK)
