"""Detects deadlocks: tasks of this process that would wait for each other for ever."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias, cast

_Task: TypeAlias = "asyncio.Task[object]"


class Holders(Protocol):
    """Knows which task holds a key."""

    def holder(self, key: str) -> asyncio.Task[object] | None:
        """The task that holds the key."""
        ...


_waiting: dict[_Task, tuple[Holders, str]] = {}
"""The key that a task waits for, itself or through a task that it awaits."""


class Wait:
    """A task's wait for a key, visible to other waits until it ends."""

    __slots__ = ("_blocked", "_key", "_queue", "_task")

    def __init__(self, task: asyncio.Task[object] | None, queue: Holders, key: str) -> None:
        self._task = task
        self._queue = queue
        self._key = key
        self._blocked: set[_Task] = set()

    def closes_a_circle(self) -> bool:
        """Whether the holder of the key waits for this task, directly or through others."""
        if self._task is None:
            return False
        self._blocked = _awaiting(self._task)
        holder = self._queue.holder(self._key)
        passed: set[_Task] = set()
        while holder is not None and holder not in passed:
            if holder in self._blocked:
                return True
            passed.add(holder)
            place = _waiting.get(holder)
            if place is None:
                break
            holder = place[0].holder(place[1])
        for task in self._blocked:
            _waiting[task] = self._queue, self._key
        return False

    def end(self) -> None:
        """The wait has ended."""
        for task in self._blocked:
            _waiting.pop(task, None)


def _awaiting(task: _Task) -> set[_Task]:
    """The task, and all tasks that wait for it to be done."""
    found: set[asyncio.Future[Any]] = {task}
    left: list[asyncio.Future[Any]] = [task]
    while left:
        callbacks = cast("list[tuple[object, object]] | None", getattr(left.pop(), "_callbacks", None))
        for callback, _ in callbacks or ():
            for other in _told_by(callback):
                if other not in found:
                    found.add(other)
                    left.append(other)
    return {each for each in found if isinstance(each, asyncio.Task)}


def _told_by(callback: object) -> Iterator[asyncio.Future[Any]]:
    """The futures that one of asyncio's callbacks completes, or the task that it wakes up."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):  # it awaits the future itself
        yield owner
    elif isinstance(owner, asyncio.TaskGroup):
        if getattr(owner, "_on_completed_fut", None) is not None:  # its block has ended, and waits for its tasks
            yield cast("_Task", getattr(owner, "_parent_task", None))
    elif isinstance(callback, functools.partial):  # of `wait_for` in Python 3.11
        bound = cast("functools.partial[object]", callback)
        if _is_asyncios(bound.func):
            yield from (each for each in bound.args if isinstance(each, asyncio.Future))
    elif _is_asyncios(callback):  # of `gather`, `wait`, `shield` and `as_completed`
        cells = getattr(callback, "__closure__", None) or ()
        for found in (*(cast("object", cell.cell_contents) for cell in cells), getattr(owner, "_done", None)):
            if isinstance(found, asyncio.Future):
                yield cast("asyncio.Future[Any]", found)
            elif isinstance(found, asyncio.Queue):  # from which the caller of `as_completed` takes what is done
                yield from cast("Iterable[asyncio.Future[Any]]", getattr(cast("object", found), "_getters", ()))


def _is_asyncios(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith("asyncio.")
