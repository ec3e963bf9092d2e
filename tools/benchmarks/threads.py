"""`python -m tools.benchmarks.threads`: `chatsession.sync` beside a plain bridge, in one run, on an SQLite file.

The plain bridge gives each call to the event loop by `asyncio.run_coroutine_threadsafe` and waits for its result. Its
rounds take turns with those of the library, and the best of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import chatsession
from chatsession.sync import SessionManager

CHATS = 50
"""Of each thread."""


@dataclass
class Pizza:
    count: int = 0


@contextmanager
def by_the_library(url: str) -> Generator[Callable[[str], None]]:
    """Updates by `chatsession.sync`."""
    with SessionManager(Pizza, storage=url) as sessions:

        def update(key: str) -> None:
            with sessions.open(key) as session:
                session.data.count += 1

        yield update


@contextmanager
def by_a_plain_bridge(url: str) -> Generator[Callable[[str], None]]:
    """Updates by the asynchronous manager, as one would write it by hand."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sessions = chatsession.SessionManager(Pizza, storage=url)

    def update(key: str) -> None:
        session = sessions.open(key)
        asyncio.run_coroutine_threadsafe(session.__aenter__(), loop).result()
        session.data.count += 1
        asyncio.run_coroutine_threadsafe(session.__aexit__(None), loop).result()

    try:
        asyncio.run_coroutine_threadsafe(sessions.start(), loop).result()
        yield update
        asyncio.run_coroutine_threadsafe(sessions.aclose(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def microseconds(update: Callable[[str], None], threads: int, updates: int) -> float:
    """An update takes so many, when so many threads make them."""

    def work(number: int) -> None:
        for n in range(updates // threads):
            update(f"{number}:{n % CHATS}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - begun) / updates * 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--updates", type=int, default=6_400, help="of a round of 32 threads")
    given = arguments.parse_args()
    print(f"{'threads':>8}{'chatsession.sync':>20}{'plain bridge':>16}")
    for threads, updates in ((32, given.updates), (8, given.updates), (1, given.updates // 8)):
        best = [float("inf"), float("inf")]
        with (
            tempfile.TemporaryDirectory() as folder,
            by_the_library(f"sqlite:///{Path(folder, 'ours.db')}") as ours,
            by_a_plain_bridge(f"sqlite:///{Path(folder, 'plain.db')}") as plain,
        ):
            for _ in range(given.rounds + 1):  # the first makes the sessions
                for place, update in enumerate((ours, plain)):
                    best[place] = min(best[place], microseconds(update, threads, updates))
        print(f"{threads:>8}{best[0]:>17.0f} µs{best[1]:>13.0f} µs")


if __name__ == "__main__":
    main()
