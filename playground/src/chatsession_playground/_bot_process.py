"""A bot's script in a process of its own, to be killed at will."""

import asyncio
import os
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LINES_KEPT = 40
LONGEST_LINE = 1024 * 1024
SECONDS_TO_LEAVE = 10
APART: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)
"""Ctrl-C is for the terminal, which ends the bot itself."""


class BotDiedError(RuntimeError):
    """The bot's process ended although nobody asked it to; the message has its last words."""


class BotProcess:
    """A bot's script, run unchanged against a Bot API server. `async with` makes sure that it ends.

    A second process always stands by with the framework imported, which takes most of the time of a start.

    Args:
        script: the file, which makes its bot from the environment's `BOT_TOKEN`.
        url: of the Bot API server.
        token: for `BOT_TOKEN`.
        folder: the process's working folder, where the script's relative paths lead to.
        on_output: called with every line that the script prints or logs.
    """

    def __init__(
        self,
        script: Path,
        *,
        url: str,
        token: str,
        folder: Path,
        on_output: Callable[[str], None] | None = None,
    ) -> None:
        self._script = script.resolve()
        self._command = [sys.executable, "-m", f"{__package__}._loopback", url, str(self._script)]
        loopback = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self._environment = os.environ | loopback | {"BOT_TOKEN": token, "PYTHONUNBUFFERED": "1"}
        self._folder = folder
        self._on_output = on_output
        self._current: _Process | None = None
        self._standby: _Process | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        return self._started.pid

    @property
    def last_lines(self) -> list[str]:
        """What it printed or logged last, since the latest start."""
        return list(self._started.last_lines)

    async def start(self) -> None:
        """Start the script, for the first time or again."""
        self._current, self._standby = self._standby or await self._prepare(), None
        self._current.go()
        self._standby = await self._prepare()

    async def kill(self) -> None:
        """End the process at once (SIGKILL): nothing of it runs any more when this returns."""
        await self._started.kill()

    async def terminate(self) -> None:
        """Ask the process to end (SIGTERM), and kill it if it takes too long."""
        await self._started.terminate()

    async def while_alive(self, work: Awaitable[T]) -> T:
        """Wait for something that only a living bot does.

        Args:
            work: such as a wait for its answer; cancelled if the bot dies.

        Returns:
            What `work` gives.

        Raises:
            BotDiedError: the process ended first.
        """
        wanted = asyncio.ensure_future(work)
        death = asyncio.create_task(self._started.gone())
        try:
            await asyncio.wait([wanted, death], return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                words = "\n".join(self.last_lines) or "(it printed nothing)"
                raise BotDiedError(f"{self._script.name} ended by itself with exit code {death.result()}:\n{words}")
        finally:
            for task in (wanted, death):
                task.cancel()
            await asyncio.gather(wanted, death, return_exceptions=True)
        return wanted.result()

    @property
    def _started(self) -> "_Process":
        if self._current is None:
            raise RuntimeError("the bot was not started")
        return self._current

    async def _prepare(self) -> "_Process":
        process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LONGEST_LINE,
            **APART,
        )
        return _Process(process, self._on_output)

    async def __aenter__(self) -> "BotProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._current is not None:
                await self._current.terminate()
        finally:
            for process in (self._current, self._standby):
                if process is not None:
                    await process.kill()


class _Process:
    """One process of the operating system, and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process, on_output: Callable[[str], None] | None) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._reader = asyncio.create_task(self._read(process.stdout, on_output))
        self.last_lines: deque[str] = deque(maxlen=LINES_KEPT)

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self) -> None:
        """Let the script run."""
        self._stdin.write(b"\n")

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self.gone()

    async def terminate(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(SECONDS_TO_LEAVE):
                await self.gone()
        except TimeoutError:
            await self.kill()

    async def gone(self) -> int:
        """Wait for the end of the process, and of what it prints; gives its exit code."""
        code = await self._process.wait()
        await asyncio.shield(self._reader)
        self._stdin.close()
        return code

    async def _read(self, stdout: asyncio.StreamReader, on_output: Callable[[str], None] | None) -> None:
        async for line in stdout:
            text = line.decode(errors="replace").rstrip()
            self.last_lines.append(text)
            if on_output is not None:
                on_output(text)
