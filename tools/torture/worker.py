"""What a worker does: load, and what it is told on its standard input."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol

import msgspec

from chatsession.manager import SessionManager
from tools.histories.counting import Counter
from tools.histories.history import HistoryFile
from tools.torture.load import Load
from tools.torture.messages import (
    EXPIRING,
    LASTING,
    OPTIMISTIC,
    Answer,
    Cancel,
    Command,
    Dump,
    Dumped,
    Finish,
    Finished,
    Progress,
    Reopen,
    Reopened,
    Shift,
    WorkerOptions,
)

_PATIENCE = 5.0
"""Seconds that a shutdown waits for open sessions."""


class Clock(Protocol):
    """A clock that can be shifted."""

    shift: float


async def run(options: WorkerOptions, clock: Clock) -> int:
    """Work until the input ends or SIGTERM comes; gives the exit code."""
    faulthandler.register(signal.SIGUSR1)
    lasting = SessionManager(
        Counter,
        storage=options.storage,
        prefix=LASTING,
        lock_lease=options.lease,
        lock_timeout=options.lock_timeout,
    )
    expiring = SessionManager(
        Counter,
        storage=lasting.storage,
        prefix=EXPIRING,
        ttl=options.ttl,
        lock_lease=options.lease,
        lock_timeout=options.lock_timeout,
    )
    optimistic = SessionManager(
        Counter, storage=lasting.storage, prefix=OPTIMISTIC, concurrency="optimistic", lock_timeout=options.lock_timeout
    )
    if options.mutation is not None:
        _mutate(options.mutation, lasting)
    with HistoryFile(Path(options.folder, f"{options.name}.jsonl")) as history:
        load = Load(
            lasting,
            expiring,
            optimistic,
            history,
            name=options.name,
            keys=options.keys,
            lease=options.lease,
            seed=options.seed,
        )
        worker = _Worker([lasting, expiring, optimistic], load, clock, Path(options.folder))
        return await worker.run(options.in_flight)


class _Worker:
    def __init__(self, managers: list[SessionManager[Counter]], load: Load, clock: Clock, folder: Path) -> None:
        self._managers = managers
        self._load = load
        self._clock = clock
        self._folder = folder

    async def run(self, in_flight: int) -> int:
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        await self._start()
        self._load.start(in_flight)
        telling = asyncio.create_task(self._tell())
        working = asyncio.create_task(self._work())
        ending = asyncio.create_task(terminated.wait())
        try:
            await asyncio.wait([working, ending, telling], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            try:
                await self._close()
            finally:
                await self._load.abort()
            for task in (telling, working, ending):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return 0

    async def _work(self) -> None:
        async for command in _commands():
            if isinstance(command, Cancel):
                self._load.cancel(command.count)
            elif isinstance(command, Shift):
                self._clock.shift = command.seconds
            elif isinstance(command, Reopen):
                await self._close()
                await self._start()
                _say(Reopened())
            elif isinstance(command, Finish):
                _say(Finished(await self._load.finish(command.seconds)))
            else:
                found = await self._load.look_at_all()
                (self._folder / "stored.json").write_bytes(msgspec.json.encode(found))
                _say(Dumped())

    async def _start(self) -> None:
        for _ in range(30):  # a server may be down just now
            with suppress(Exception):
                await asyncio.gather(*(manager.start() for manager in self._managers))
                return
            await asyncio.sleep(0.5)
        await asyncio.gather(*(manager.start() for manager in self._managers))

    async def _close(self) -> None:
        await asyncio.gather(*(manager.aclose(_PATIENCE) for manager in self._managers))

    async def _tell(self) -> None:
        while True:
            _say(Progress(self._load.changed, self._load.ended, self._load.oldest()))
            await asyncio.sleep(0.5)


def _mutate(name: str, sessions: SessionManager[Counter]) -> None:
    module, _, function = name.partition(":")
    mutation: Callable[[SessionManager[Counter]], None] = getattr(import_module(module), function)
    mutation(sessions)


async def _commands() -> AsyncIterator[Command]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    decode = msgspec.json.Decoder(Cancel | Shift | Reopen | Finish | Dump).decode
    try:
        while line := await reader.readline():
            yield decode(line)
    finally:
        transport.close()


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
