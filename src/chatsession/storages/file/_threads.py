"""The threads in which a folder is read and written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class _Job(NamedTuple):
    work: Callable[[], Any] | None
    """`None`: the thread ends."""
    done: asyncio.Future[Any] | None
    """`None`: the result is not awaited."""


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
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._threads: list[Thread] = []
        self._unfinished = 0

    def run(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Call a function in one of the threads."""
        if self._unfinished >= len(self._threads) < self._most:
            thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self._submit(work)

    async def close(self) -> None:
        """Wait until all work is done and the threads have ended."""
        endings = [self._submit(None) for _ in self._threads]
        self._threads.clear()
        await asyncio.gather(*endings)

    def end(self) -> None:
        """Let the threads end when all work is done, without waiting for that; needs no event loop."""
        for _ in self._threads:
            self._jobs.put(_Job(None, None))
        self._threads.clear()

    def _submit(self, work: Callable[[], Any] | None) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.add_done_callback(self._finished)
        self._unfinished += 1
        self._jobs.put(_Job(work, done))
        return done

    def _finished(self, _: asyncio.Future[Any]) -> None:
        self._unfinished -= 1

    def _work(self) -> None:
        while True:
            work, done = self._jobs.get()
            if work is None:
                _tell(done, None)
                return
            try:
                result = work()
            except Exception as error:
                result = error
            _tell(done, result)
            del work, done, result  # otherwise they would be kept until the next job


def _tell(done: asyncio.Future[Any] | None, result: object) -> None:
    if done is None:
        return
    with suppress(RuntimeError):  # the loop was closed
        done.get_loop().call_soon_threadsafe(_settle, done, result)


def _settle(done: asyncio.Future[Any], result: object) -> None:
    if done.done():
        return
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
