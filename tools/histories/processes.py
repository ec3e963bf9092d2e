"""Several real processes that share sessions, of which some are killed or stopped.

Example:
    >>> async def prove(url: str, folder: Path) -> None:
    ...     async with Workers(url, folder, count=4) as workers:
    ...         await workers.count(updates=20_000, keys=1_000)
    ...         assert await workers.faults() == []
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TypeVar
from uuid import uuid4

import msgspec

from chatsession.manager import SessionManager
from tools.histories.counting import Counter, stored_states
from tools.histories.history import find_faults, read_history
from tools.histories.worker import Count, Counted, Held, Hold, Ready, Release, Released, Told, WorkerOptions

Message = TypeVar("Message", Ready, Told, Counted, Held, Released)

_ANSWERS = msgspec.json.Decoder(Ready | Told | Counted | Held | Released)


class WorkerFailedError(AssertionError):
    """A worker said something else than it should have, or ended; the message ends with what it wrote to stderr."""


class WorkerProcess:
    """One worker; an async context manager.

    Args:
        options: what it is started with.
        log: where its standard error goes.
        path: folders where its `setup` module is looked for.
    """

    def __init__(self, options: WorkerOptions, log: Path, path: Sequence[Path] = ()) -> None:
        self._options = options
        self._log = log
        self._path = path
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tools.histories.worker",
                msgspec.json.encode(self._options).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, self._path))} if self._path else None,
            )
        await self.answer(Ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is None or self._process.stdin is None:
            return
        if self._process.returncode is None:
            self.resume()
        self._process.stdin.close()
        try:
            async with asyncio.timeout(60):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def tell(self, command: Count | Hold | Release) -> None:
        """Say what to do."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        await self._process.stdin.drain()

    async def answer(self, kind: type[Message], seconds: float = 300.0) -> Message:
        """Wait for what it says next, which must be this; `Told` is passed over while waiting for anything else.

        Raises:
            WorkerFailedError: it says something else, ends, or takes longer than `seconds`.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                while line := await self._process.stdout.readline():
                    message = _ANSWERS.decode(line)
                    if isinstance(message, kind):
                        return message
                    if not isinstance(message, Told):
                        raise WorkerFailedError(f"{self._options.name} said {message!r} instead of {kind.__name__}")
        except TimeoutError:
            raise WorkerFailedError(f"{self._options.name} did not say {kind.__name__} within {seconds:g} s") from None
        raise WorkerFailedError(f"{self._options.name} ended: {self._log.read_text(errors='replace')[-2000:]}")

    async def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        await self._process.wait()

    def stop(self) -> None:
        """Let it stand still (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class Workers:
    """Several workers on the same sessions, and the check of what they did; an async context manager.

    Args:
        storage: the URL of the storage.
        folder: where they write their histories and logs.
        count: how many there are.
        lock_lease: seconds, as the option of `SessionManager`.
        lock_timeout: seconds, as the option of `SessionManager`.
        setup: `module:function`, called in each with its manager before anything else.
        path: folders where that module is looked for.
    """

    def __init__(
        self,
        storage: str,
        folder: Path,
        *,
        count: int = 4,
        lock_lease: float = 20.0,
        lock_timeout: float = 300.0,
        setup: str | None = None,
        path: Sequence[Path] = (),
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._prefix = f"{uuid4().hex}:"
        self._workers = [
            WorkerProcess(
                WorkerOptions(
                    name=f"worker-{n}",
                    storage=storage,
                    history=str(folder / f"worker-{n}.jsonl"),
                    prefix=self._prefix,
                    lock_lease=lock_lease,
                    lock_timeout=lock_timeout,
                    setup=setup,
                ),
                folder / f"worker-{n}.log",
                path,
            )
            for n in range(count)
        ]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            # One after the other would take long; but the first alone may create what the others find.
            await self._stack.enter_async_context(self._workers[0])
            await asyncio.gather(*map(self._stack.enter_async_context, self._workers[1:]))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def __getitem__(self, number: int) -> WorkerProcess:
        return self._workers[number]

    async def start(self, workers: Sequence[WorkerProcess], command: Count) -> None:
        """Let workers share the updates of a command among themselves."""
        for seed, worker in enumerate(workers):
            share = msgspec.structs.replace(command, updates=command.updates // len(workers), seed=seed)
            await worker.tell(share)

    async def finished(self, workers: Sequence[WorkerProcess], seconds: float = 300.0) -> tuple[int, list[str]]:
        """Wait until they have counted; gives how many updates were acknowledged, and errors of some others."""
        results = [await worker.answer(Counted, seconds) for worker in workers]
        return sum(each.committed for each in results), [error for each in results for error in each.errors]

    async def count(self, updates: int, keys: int, in_flight: int = 50) -> tuple[int, list[str]]:
        """Let all workers share so many updates of so many keys, and wait for them."""
        await self.start(self._workers, Count(updates=updates, keys=keys, in_flight=in_flight))
        return await self.finished(self._workers)

    async def faults(self) -> list[str]:
        """What cannot have happened if no update was lost (see `find_faults`); ask when nobody counts any more."""
        updates = read_history(sorted(self._folder.glob("worker-*.jsonl")))
        async with SessionManager(Counter, storage=self._storage, prefix=self._prefix) as sessions:
            stored = await stored_states(sessions, {update.key for update in updates})
        return find_faults(updates, stored)

    async def total(self) -> int:
        """The sum of all counters."""
        async with SessionManager(Counter, storage=self._storage, prefix=self._prefix) as sessions:
            return sum([counter.count async for _, counter in sessions.entries()])
