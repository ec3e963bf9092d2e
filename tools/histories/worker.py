"""One of several processes that share sessions: `python -m tools.histories.worker OPTIONS`.

It is told by JSON lines on its standard input what to do, and says by JSON lines on its standard output what it did;
`tools.histories.processes` is its other side. It ends when its input ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pathlib import Path

import msgspec

from chatsession.errors import SessionError
from chatsession.manager import SessionManager
from tools.histories.counting import Counter, Tally, count_up, keys_of_updates
from tools.histories.history import Fate, HistoryFile, State


class WorkerOptions(msgspec.Struct, kw_only=True):
    """What a worker is started with."""

    name: str
    storage: str
    """The URL of the storage."""
    history: str
    """The path of its history file."""
    prefix: str = ""
    lock_lease: float = 20.0
    lock_timeout: float = 60.0
    setup: str | None = None
    """`module:function`, called with the manager before anything else."""


class Count(msgspec.Struct, tag="count", kw_only=True):
    """Count up; say `Told` after so many commits, and `Counted` at the end."""

    updates: int
    keys: int
    in_flight: int = 50
    seed: int = 0
    tell_after: int | None = None
    again: bool = False
    """Make an update again that was refused by a conflict: on a busy machine, a short lease may well be lost."""


class Hold(msgspec.Struct, tag="hold"):
    """Open the session of a key; say `Held`, and keep it open until `Release`."""

    key: str


class Release(msgspec.Struct, tag="release"):
    """Count the held session up and commit; say `Released`."""


class Ready(msgspec.Struct, tag="ready"):
    """The storage is open."""


class Told(msgspec.Struct, tag="told"):
    """As many commits as was asked for were acknowledged; it goes on."""

    committed: int


class Counted(msgspec.Struct, tag="counted"):
    """All updates ended."""

    committed: int
    errors: list[str]


class Held(msgspec.Struct, tag="held"):
    """The session is open, and was read."""


class Released(msgspec.Struct, tag="released"):
    """The held session was committed, or failed by the error of this name."""

    error: str | None


class Worker:
    """Does what it is told, one thing after the other."""

    def __init__(self, options: WorkerOptions, sessions: SessionManager[Counter], history: HistoryFile) -> None:
        self._options = options
        self._sessions = sessions
        self._history = history
        self._calls = 0
        self._commands: AsyncIterator[Count | Hold | Release] | None = None

    async def run(self) -> None:
        """Until the input ends."""
        self._commands = commands = _commands()
        _say(Ready())
        async for command in commands:
            if isinstance(command, Count):
                await self._count(command)
            elif isinstance(command, Hold):
                await self._hold(command.key, commands)

    async def _count(self, command: Count) -> None:
        def tell(committed: int) -> None:
            if committed == command.tell_after:
                _say(Told(committed))

        tally = await count_up(
            self._sessions,
            keys_of_updates(command.updates, command.keys, command.seed),
            self._history,
            name=self._next_name(),
            in_flight=command.in_flight,
            tally=Tally(tell),
            again=command.again,
        )
        _say(Counted(tally.committed, tally.errors[:20]))

    async def _hold(self, key: str, commands: AsyncIterator[Count | Hold | Release]) -> None:
        update = f"{self._next_name()}:held"
        self._history.started(update, key)
        try:
            async with self._sessions.open(key) as session:
                before = session.data
                self._history.read(update, State(before.count, before.by))
                _say(Held())
                await anext(commands)
                session.data = Counter(before.count + 1, update)
        except SessionError as error:
            self._history.failed(update, error, Fate.REFUSED)
            _say(Released(type(error).__name__))
        else:
            self._history.committed(update)
            _say(Released(None))

    def _next_name(self) -> str:
        self._calls += 1
        return f"{self._options.name}.{self._calls}"


async def _commands() -> AsyncIterator[Count | Hold | Release]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    decode = msgspec.json.Decoder(Count | Hold | Release).decode
    try:
        while line := await reader.readline():
            yield decode(line)
    finally:
        transport.close()


def _say(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


async def main(options: WorkerOptions) -> None:
    """Open the storage, and do what is told."""
    sessions = SessionManager(
        Counter,
        storage=options.storage,
        prefix=options.prefix,
        lock_lease=options.lock_lease,
        lock_timeout=options.lock_timeout,
    )
    if options.setup is not None:
        module, _, function = options.setup.partition(":")
        setup: Callable[[SessionManager[Counter]], None] = getattr(import_module(module), function)
        setup(sessions)
    with HistoryFile(Path(options.history)) as history:
        async with sessions:
            await Worker(options, sessions, history).run()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=WorkerOptions)))
