"""A process whose threads count up by `chatsession.sync`: `python -m tools.histories.threads OPTIONS`.

It writes a history, says how many of its updates were committed so far, a line each, and ends when all are.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec

from chatsession.errors import SessionConflictError
from chatsession.sync import SessionManager
from tools.histories.counting import Counter, keys_of_updates
from tools.histories.history import Fate, HistoryFile, State


class ThreadOptions(msgspec.Struct, kw_only=True):
    """What a process is started with."""

    name: str
    storage: str
    """The URL of the storage."""
    history: str
    """The path of its history file."""
    prefix: str
    threads: int = 8
    updates: int = 125
    """Of each thread."""
    keys: int = 10
    lock_lease: float = 20.0
    processes: int = 1
    """So many are forked, after the manager was used."""


def run(options: ThreadOptions) -> None:
    """Count up in as many processes and threads as was asked for."""
    sessions = SessionManager(
        Counter, storage=options.storage, prefix=options.prefix, lock_lease=options.lock_lease, lock_timeout=300.0
    )
    sessions.get("the parent uses it before it forks")
    number = _forked(options.processes)
    name = f"{options.name}.{number}"
    with HistoryFile(Path(f"{options.history}.{number}")) as history:
        threads = [
            threading.Thread(target=count_up, args=(options, sessions, history, f"{name}:{n}", n))
            for n in range(options.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sessions.close()


def _forked(processes: int) -> int:
    """Be so many processes; gives the number of this one."""
    for number in range(1, processes):
        if os.fork() == 0:
            return number
    return 0


def count_up(
    options: ThreadOptions, sessions: SessionManager[Counter], history: HistoryFile, name: str, seed: int
) -> None:
    """The updates of one thread."""
    for n, key in enumerate(keys_of_updates(options.updates, options.keys, seed)):
        update = f"{name}.{n}"
        while not _count_one(sessions, history, update, key):  # on a busy machine, a short lease may well be lost
            update += "+"
        os.write(sys.stdout.fileno(), b".\n")


def _count_one(sessions: SessionManager[Counter], history: HistoryFile, update: str, key: str) -> bool:
    history.started(update, key)
    try:
        with sessions.open(key) as session:
            before = session.data
            history.read(update, State(before.count, before.by))
            session.data = Counter(before.count + 1, update)
    except SessionConflictError as error:
        history.failed(update, error, Fate.REFUSED)
        return False
    history.committed(update)
    return True


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=ThreadOptions))
