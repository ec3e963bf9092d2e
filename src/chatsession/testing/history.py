"""What happened to counters, written down by those who counted, and whether it can have happened.

Each process appends one JSON line an event to a file of its own, in one `write`, so that a `kill -9` loses nothing of
what it saw. A counter's state is its count and the id of the update that wrote it; every update reads one state and
writes the next. So the updates of one key that took effect must form one chain, from the empty counter to the state
that is stored in the end: a lost update is a fork in it, a stale or invented state is none of its links.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec


class State(msgspec.Struct, frozen=True, array_like=True):
    """What a counter holds."""

    count: int = 0
    by: str = ""
    """The id of the update that wrote it."""


class Fate(Enum):
    """What became of an update, as far as the one who made it knows."""

    COMMITTED = "committed"
    REFUSED = "refused"
    """By an error that promises that nothing was written."""
    UNKNOWN = "unknown"
    """The process died, or the storage did not answer: it took effect once, or not at all."""


class Update(msgspec.Struct):
    """One update of one key, put together from its events. Times are of the machine's monotonic clock."""

    id: str
    key: str
    started: float
    read: State | None = None
    ended: float | None = None
    fate: Fate = Fate.UNKNOWN
    error: str | None = None


class _Event(msgspec.Struct, omit_defaults=True):
    id: str
    at: float
    key: str | None = None
    """Of the first event of an update."""
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

    def started(self, update: str, key: str) -> None:
        """An update asks for its key."""
        self._write(_Event(update, time.monotonic(), key=key))

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


def read_history(paths: Iterable[Path]) -> list[Update]:
    """Put the updates together from the files of all processes.

    Raises:
        ValueError: the files contradict themselves, as when two updates have the same id.
    """
    updates: dict[str, Update] = {}
    for path in paths:
        for event in _events(path):
            _add(updates, event)
    return list(updates.values())


def find_faults(updates: Iterable[Update], stored: Mapping[str, State]) -> list[str]:
    """Say what cannot have happened if updates of one key run one after another and none is lost.

    Args:
        updates: all of them, from all processes.
        stored: what is stored in the end, for each key; a key without an entry is missing.

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
        for fault in _faults_of_key(by_key.get(key, []), stored.get(key, State()))
    ]


def _events(path: Path) -> Iterator[_Event]:
    decode = msgspec.json.Decoder(_Event).decode
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # a process that was killed may leave half a line at the end
            yield decode(line)


def _add(updates: dict[str, Update], event: _Event) -> None:
    if event.key is not None:
        if event.id in updates:
            raise ValueError(f"two updates have the id {event.id!r}")
        updates[event.id] = Update(event.id, event.key, event.at)
        return
    update = updates[event.id]
    if event.read is not None:
        update.read = event.read
        return
    if update.ended is not None:
        raise ValueError(f"update {event.id!r} ended twice")
    assert event.fate is not None
    update.ended, update.fate, update.error = event.at, event.fate, event.error


def _faults_of_key(updates: Sequence[Update], stored: State) -> Iterator[str]:
    readers: defaultdict[State, list[Update]] = defaultdict(list)
    for update in updates:
        if update.read is not None:
            readers[update.read].append(update)
        elif update.fate is Fate.COMMITTED:
            yield f"{update.id} was committed without having read"

    chain, forks = _follow(readers, stored)
    yield from forks
    yield from _against_time(chain)

    states = [State(), *(State(count, update.id) for count, update in enumerate(chain, 1))]
    if stored != states[-1]:
        yield f"{_shown(stored)} is stored, but the last update that took effect wrote {_shown(states[-1])}"
    linked = {update.id for update in chain}
    for update in updates:
        if update.fate is Fate.COMMITTED and update.id not in linked:
            yield f"{update.id} is lost: it was acknowledged, and nothing shows it"
    for state in readers.keys() - set(states):
        yield f"{readers[state][0].id} read {_shown(state)}, which no update that took effect wrote"


def _follow(readers: Mapping[State, list[Update]], stored: State) -> tuple[list[Update], list[str]]:
    """The chain of updates that took effect, and where more than one would have to be the next."""
    chain: list[Update] = []
    faults: list[str] = []
    state = State()
    while True:
        following = [
            update
            for update in readers.get(state, ())
            if update.fate is Fate.COMMITTED
            or (update.fate is Fate.UNKNOWN and _is_seen(State(state.count + 1, update.id), readers, stored))
        ]
        if not following:
            return chain, faults
        if len(following) > 1:
            names = " and ".join(update.id for update in following)
            faults.append(f"{names} all read {_shown(state)}, and each took effect")
        # Behind a fork, go on where others went on.
        following.sort(key=lambda update: not _is_seen(State(state.count + 1, update.id), readers, stored))
        chain.append(following[0])
        state = State(state.count + 1, following[0].id)


def _is_seen(state: State, readers: Mapping[State, list[Update]], stored: State) -> bool:
    return state in readers or state == stored


def _against_time(chain: Sequence[Update]) -> Iterator[str]:
    """An update that ended before another one began cannot stand behind it."""
    latest: Update | None = None
    for update in chain:
        if latest is not None and update.ended is not None and update.ended < latest.started:
            yield f"{update.id} was acknowledged before {latest.id} began, and yet built upon it"
        if latest is None or update.started > latest.started:
            latest = update


def _shown(state: State) -> str:
    return f"{state.count} by {state.by}" if state.by else f"{state.count}"
