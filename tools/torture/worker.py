"""What a worker does: load, and what it is told on its standard input."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol
from zlib import crc32

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
    ChangeLoop,
    Command,
    Dump,
    Dumped,
    Finish,
    Finished,
    Fork,
    Forked,
    LoopChanged,
    Progress,
    Reopen,
    Reopened,
    Shift,
    WorkerOptions,
)

_PATIENCE = 5.0
"""Seconds that a shutdown waits for open sessions."""
_BETWEEN_LOOKS = 0.02
_LONGEST_CHILD = 60.0
"""Seconds in which the operations of a forked child must end."""
_PR_SET_PDEATHSIG = 1
"""Of Linux: what a process gets when its parent dies."""


class Clock(Protocol):
    """A clock that can be shifted."""

    shift: float


def run(options: WorkerOptions, clock: Clock) -> int:
    """Work until the input ends or SIGTERM comes; returns the exit code."""
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
        worker = _Worker([lasting, expiring, optimistic], options, history, clock)
        while (code := asyncio.run(worker.run())) is None:
            pass  # in another event loop
        return code


class _Worker:
    def __init__(
        self, managers: list[SessionManager[Counter]], options: WorkerOptions, history: HistoryFile, clock: Clock
    ) -> None:
        self._managers = managers
        self._options = options
        self._folder = Path(options.folder)
        self._load = self._make_load(history, options.name)
        self._forks = 0
        self._changed_loop = False
        self._commands = _Commands(clock)

    def _make_load(self, history: HistoryFile, name: str) -> Load:
        options, (lasting, expiring, optimistic) = self._options, self._managers
        return Load(
            lasting,
            expiring,
            optimistic,
            history,
            name=name,
            keys=options.keys,
            lease=options.lease,
            seed=options.seed ^ crc32(name.encode()),
        )

    async def run(self) -> int | None:
        """Work in this event loop; `None`: go on in another one."""
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        await self._start()
        self._load.start(self._options.in_flight)
        if self._changed_loop:
            self._changed_loop = False
            _say(LoopChanged())
        telling = asyncio.create_task(self._tell())
        working = asyncio.create_task(self._work())
        ending = asyncio.create_task(terminated.wait())
        goes_on = False
        try:
            await asyncio.wait([working, ending, telling], return_when=asyncio.FIRST_COMPLETED)
            goes_on = working.done() and working.result()
        finally:
            try:
                if not goes_on:
                    await self._close()
            finally:
                await self._load.abort()
            for task in (telling, working, ending):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return None if goes_on else 0

    async def _work(self) -> bool:
        """Do what is told; returns whether the work goes on in another event loop."""
        async for command in self._commands:
            match command:
                case Cancel():
                    self._load.cancel(command.count)
                case Shift():
                    pass  # it was done when it was read
                case Reopen():
                    await self._close()
                    await self._start()
                    _say(Reopened())
                case Fork():
                    _say(Forked(await self._fork(command.seconds)))
                case ChangeLoop():
                    self._changed_loop = True
                    return True
                case Finish():
                    _say(Finished(await self._load.finish(command.seconds)))
                case Dump():
                    found = await self._load.look_at_all()
                    (self._folder / "stored.json").write_bytes(msgspec.json.encode(found))
                    _say(Dumped())
        return False

    async def _fork(self, seconds: float) -> int:
        """Let a forked child work with the managers that this process goes on using; returns its exit code."""
        self._forks += 1
        pid = os.fork()
        if pid == 0:
            os._exit(self._be_child(f"{self._options.name}-f{self._forks}", seconds))
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _be_child(self, name: str, seconds: float) -> int:
        try:
            asyncio.events._set_running_loop(None)
            signal.set_wakeup_fd(-1)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            asyncio.run(self._work_as_child(name, seconds))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            return 1
        return 0

    async def _work_as_child(self, name: str, seconds: float) -> None:
        with HistoryFile(self._folder / f"{name}.jsonl") as history:
            load = self._make_load(history, name)
            await self._start()
            load.start(max(4, self._options.in_flight // 4))
            await asyncio.sleep(seconds)
            if hung := await load.finish(_LONGEST_CHILD):
                raise RuntimeError(f"{hung} operations of a forked child did not end")
            await self._close()

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


class _Commands:
    """What comes on the standard input, in whichever event loop.

    Args:
        clock: shifted at once, whatever else is done meanwhile, so that it is known for how long it was off.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: SimpleQueue[Command | None] = SimpleQueue()
        Thread(target=self._read, daemon=True).start()

    async def __aiter__(self) -> AsyncIterator[Command]:
        while True:
            try:
                command = self._waiting.get_nowait()
            except Empty:
                await asyncio.sleep(_BETWEEN_LOOKS)
                continue
            if command is None:
                return
            yield command

    def _read(self) -> None:
        decode = msgspec.json.Decoder(Command).decode
        # Unbuffered: an interpreter that ends cannot take the buffer of sys.stdin from a thread that waits in it.
        with open(0, "rb", buffering=0, closefd=False) as commands:
            while line := commands.readline():
                command = decode(line)
                if isinstance(command, Shift):
                    self._clock.shift = command.seconds
                else:
                    self._waiting.put(command)
        self._waiting.put(None)


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
