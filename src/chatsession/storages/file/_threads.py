"""The threads in which a folder is read and written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """A few daemon threads, which work until the process ends.

    Those of `concurrent.futures` accept no work once the main thread has ended, although event loops in other
    threads still run and have locks to release.

    Args:
        most: the largest number of threads; each is started when it is needed.
        name: the beginning of their names.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        """Each returns whether its thread goes on."""
        self._threads: list[Thread] = []
        self._unfinished = 0

    def run(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Call a function in one of the threads."""
        if self._unfinished >= len(self._threads) < self._most:
            thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self._submit(work, goes_on=True)

    async def close(self) -> None:
        """Wait until all work is done and the threads end."""
        endings = [self._submit(lambda: None, goes_on=False) for _ in self._threads]
        self._threads.clear()
        await asyncio.gather(*endings)

    def end(self) -> None:
        """Let the threads end when all work is done, without waiting for that; needs no event loop."""
        for _ in self._threads:
            self._jobs.put(lambda: False)
        self._threads.clear()

    def _submit(self, work: Callable[[], Result], *, goes_on: bool) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        done.add_done_callback(self._finished)
        self._unfinished += 1

        def job() -> bool:
            with suppress(RuntimeError):  # the loop was closed
                try:
                    result = work()
                except Exception as error:
                    loop.call_soon_threadsafe(_settle, done, done.set_exception, error)
                else:
                    loop.call_soon_threadsafe(_settle, done, done.set_result, result)
            return goes_on

        self._jobs.put(job)
        return done

    def _finished(self, _: asyncio.Future[Any]) -> None:
        self._unfinished -= 1

    def _work(self) -> None:
        while self._jobs.get()():
            pass  # without a name for the job, which would keep it until the next one comes


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if not done.done():
        settle(value)
