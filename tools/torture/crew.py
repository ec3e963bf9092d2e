"""The worker processes of a campaign, of which some are killed, stopped and shut down."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tools.torture.messages import (
    Answer,
    Command,
    Dumped,
    Finished,
    Forked,
    LoopChanged,
    Progress,
    Reopened,
    WorkerOptions,
)

_ROOT = Path(__file__).parents[2]

Asked = TypeVar("Asked", Reopened, Forked, LoopChanged, Finished, Dumped)


class WorkerFailedError(Exception):
    """A worker ended although nobody ended it, or does not do what it is told."""


class Member:
    """One process.

    Attributes:
        progress: what it said of itself last.
        moved: when it last had finished more operations than before (monotonic clock).
        stopped: it was told to stand still.
        expected_end: somebody has ended it, or told it to end.
    """

    def __init__(self, options: WorkerOptions, log: Path) -> None:
        self.name = options.name
        self._options = options
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self.progress = Progress(0, 0, 0.0)
        self.moved = time.monotonic()
        self.began = asyncio.Event()
        self.stopped = False
        self.busy = False
        self.expected_end = False

    async def start(self) -> None:
        """Start it; it works from then on."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tools.torture.process",
                msgspec.json.encode(self._options).decode(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])},
            )
        self.moved = time.monotonic()
        self._reading = asyncio.create_task(self._read())

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with."""
        return None if self._process is None else self._process.returncode

    @property
    def available(self) -> bool:
        """Can something be done to it now?"""
        return self.running and self.began.is_set() and not (self.stopped or self.busy or self.expected_end)

    @contextmanager
    def engaged(self) -> Generator[None]:
        """Keep it from being drawn for anything else meanwhile."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def tell(self, command: Command) -> None:
        """Say what to do."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")

    async def ask(self, command: Command, kind: type[Asked], seconds: float) -> Asked:
        """Say what to do, and wait until it is done.

        Raises:
            WorkerFailedError: it is not done in time, or the process ends.
        """
        self.tell(command)
        try:
            async with asyncio.timeout(seconds):
                while not isinstance(answer := await self._answers.get(), kind):
                    if isinstance(answer, Progress):
                        raise WorkerFailedError(f"{self.name} ended instead of {kind.__name__}: {self.log()}")
        except TimeoutError:
            self.dump_stack()
            raise WorkerFailedError(f"{self.name} did not say {kind.__name__} within {seconds:g} s") from None
        return answer

    async def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.expected_end = True
        self._signal(signal.SIGKILL)
        await self.wait(60)

    async def terminate(self, seconds: float) -> None:
        """Have it shut down (SIGTERM)."""
        self.expected_end = True
        self._signal(signal.SIGTERM)
        await self.wait(seconds)
        if self.exit_code != 0:
            raise WorkerFailedError(f"{self.name} shut down with exit code {self.exit_code}: {self.log()}")

    async def wait(self, seconds: float) -> None:
        """Wait for its end.

        Raises:
            WorkerFailedError: it takes longer.
        """
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            self.dump_stack()
            raise WorkerFailedError(f"{self.name} did not end within {seconds:g} s") from None

    def stop(self) -> None:
        """Let it stand still (SIGSTOP)."""
        self.stopped = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self.stopped = False
        self.moved = time.monotonic()

    def dump_stack(self) -> None:
        """Have it write into its log where it is."""
        self._signal(signal.SIGUSR1)

    def log(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._log.read_text(errors="replace")[-3000:]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(Answer).decode
        while line := await self._process.stdout.readline():
            if not line.endswith(b"\n"):
                break
            answer = decode(line)
            if not isinstance(answer, Progress):
                self._answers.put_nowait(answer)
                continue
            if answer.ended > self.progress.ended:
                self.moved = time.monotonic()
            self.progress = answer
            self.began.set()
        self.began.set()
        self._answers.put_nowait(self.progress)


class Crew:
    """So many workers, each of which is followed by a fresh one when it ends; an async context manager.

    Args:
        size: how many there are at a time.
        options: of a worker with this number.
        folder: where they write their logs.
    """

    def __init__(self, size: int, options: Callable[[int], WorkerOptions], folder: Path) -> None:
        self._size = size
        self._options = options
        self._folder = folder
        self.members: list[Member] = []
        self.former: list[Member] = []

    async def __aenter__(self) -> Crew:
        # One after the other would take long; but the first alone may create what the others find.
        await (await self.hire()).began.wait()
        for _ in range(self._size - 1):
            await self.hire()
        for member in self.members:
            await member.began.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in (*self.members, *self.former):
            if member.running:
                await member.kill()

    async def hire(self) -> Member:
        """Start a fresh one."""
        options = self._options(len(self.members) + len(self.former))
        member = Member(options, self._folder / f"{options.name}.log")
        self.members.append(member)
        await member.start()
        return member

    async def replace(self, member: Member) -> None:
        """Let a fresh one take the place of one that has ended."""
        self.members.remove(member)
        self.former.append(member)
        await self.hire()

    @property
    def changed(self) -> int:
        """How many changes were acknowledged to all of them."""
        return sum(member.progress.changed for member in (*self.members, *self.former))

    def available(self) -> list[Member]:
        """Those to whom something can be done now."""
        return [member for member in self.members if member.available]
