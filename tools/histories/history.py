"""What happened to counters, written down by those who counted, and whether it can have happened.

Each process appends one JSON line an event to a file of its own, in one `write`, so that a `kill -9` loses nothing of
what it saw. A counter's state is its count and the id of the update that wrote it; every update reads one state and
writes the next. So the updates of one key that took effect must form one chain, from the empty counter to the state
that is stored in the end: a lost update is a fork in it, a stale or invented state is none of its links. Where sessions
are deleted or expire, there is one such chain for each life of the key. `lives.py` puts them in order.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tools.histories.lives import Expiry, faults_of_key
from tools.histories.updates import Effect, Fate, State, Update


class _Event(msgspec.Struct, omit_defaults=True):
    id: str
    at: float
    key: str | None = None
    """Of the first event of an update."""
    effect: Effect = Effect.COUNT
    read: State | None = None
    fate: Fate | None = None
    error: str | None = None


class HistoryFile:
    """Where one process writes down what it does; a context manager.

    Args:
        path: of the file, which is appended to.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def started(self, update: str, key: str, effect: Effect = Effect.COUNT, at: float | None = None) -> None:
        """An update asks for its key, or asked for it at that time (`time.monotonic`)."""
        self._write(_Event(update, time.monotonic() if at is None else at, key=key, effect=effect))

    def read(self, update: str, state: State) -> None:
        """It has the key, and this is what it found."""
        self._write(_Event(update, time.monotonic(), read=state))

    def committed(self, update: str) -> None:
        """It was told that what it wrote is stored."""
        self._write(_Event(update, time.monotonic(), fate=Fate.COMMITTED))

    def failed(self, update: str, error: BaseException, fate: Fate) -> None:
        """It was told that it failed."""
        self._write(_Event(update, time.monotonic(), fate=fate, error=type(error).__name__))

    def _write(self, event: _Event) -> None:
        os.write(self._file, self._encode(event) + b"\n")


def read_history(paths: Iterable[Path], wanted: Callable[[str], bool] | None = None) -> list[Update]:
    """Put the updates together from the files of all processes.

    Args:
        paths: the files.
        wanted: says of a key whether its updates are read; for histories that are too long to be read at once.

    Raises:
        ValueError: the files contradict themselves, as when two updates have the same id.
    """
    updates: dict[str, Update] = {}
    for path in paths:
        for event in _events(path):
            if event.key is not None:
                _begin(updates, event, wanted)
            elif wanted is None or event.id in updates:
                _add(updates[event.id], event)
    return list(updates.values())


def find_faults(
    updates: Iterable[Update],
    stored: Mapping[str, State],
    expiry: Callable[[str], Expiry | None] = lambda _: None,
    *,
    undone: bool = False,
    excused: Callable[[Update], bool] = lambda _: False,
) -> list[str]:
    """Say what cannot have happened if updates of one key run one after another and none is lost.

    Args:
        updates: all of them, from all processes.
        stored: what is stored in the end, for each key; a key without an entry is missing.
        expiry: of a key's sessions; `None`: they are there until they are deleted.
        undone: what was not acknowledged may have been seen, and yet be undone (see `faults_of_key`).
        excused: which updates that changed nothing may have read what had been replaced (see `faults_of_key`).

    Returns:
        One line for each fault; an empty list if everything is explained.
    """
    by_key: defaultdict[str, list[Update]] = defaultdict(list)
    for update in updates:
        by_key[update.key].append(update)
    keys = by_key.keys() | stored.keys()
    return [
        f"{key}: {fault}"
        for key in sorted(keys)
        for fault in faults_of_key(
            by_key.get(key, []), stored.get(key, State()), expiry(key), undone=undone, excused=excused
        )
    ]


def _events(path: Path) -> Iterator[_Event]:
    decode = msgspec.json.Decoder(_Event).decode
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):  # a process that was killed may leave half a line at the end
                yield decode(line)


def _begin(updates: dict[str, Update], event: _Event, wanted: Callable[[str], bool] | None) -> None:
    assert event.key is not None
    if wanted is not None and not wanted(event.key):
        return
    if event.id in updates:
        raise ValueError(f"two updates have the id {event.id!r}")
    updates[event.id] = Update(event.id, sys.intern(event.key), event.at, effect=event.effect)


def _add(update: Update, event: _Event) -> None:
    if event.read is not None:
        if update.read is not None:
            update.before.append(update.read)
        update.read, update.read_at = event.read, event.at
        return
    if update.ended is not None:
        raise ValueError(f"update {update.id!r} ended twice")
    assert event.fate is not None
    update.ended, update.fate, update.error = event.at, event.fate, event.error
