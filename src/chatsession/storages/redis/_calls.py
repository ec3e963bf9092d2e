"""Sends commands: many in one round trip, again where that may help, and never for longer than was allowed."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from redis import exceptions as driver

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages.redis._errors import is_transient, reason
from chatsession.storages.redis._scripts import Script
from chatsession.storages.redis._packing import packed
from chatsession.storages.redis._servers import Servers, Wire, Word

_CONNECTIONS = 8
_SECONDS_OF_ATTEMPT = 6.0
_MILLISECONDS_TO_REPLICATE = 1000


class Call:
    """A command, and what became of it.

    Args:
        command: its words.
        name: a key, which tells the server that must do it.
        script: the script that it runs, if it runs one.
        place: the server, where no key tells it.
    """

    __slots__ = ("asking", "command", "fault", "name", "place", "reply", "script", "unknown")

    def __init__(
        self, command: Sequence[Word], name: bytes = b"", script: Script | None = None, place: str | None = None
    ) -> None:
        self.command = command
        self.name = name
        self.script = script
        self.place = place
        self.asking = False
        """It goes to where its slot is moving to, which takes it only when told so."""
        self.unknown = False
        """The server does not know the script, which must be loaded first."""
        self.fault: Exception | None = None
        """Why it is to be tried again."""
        self.reply: object = None
        """In the end: what the server answered, or a `StorageError`."""


def script_call(script: Script, name: bytes, keys: Sequence[Word], arguments: Sequence[Word]) -> Call:
    """A call of a script; its first key is `name` or lies in the same slot."""
    return Call(("EVALSHA", script.digest, len(keys), *keys, *arguments), name, script)


class _NotReplicatedError(driver.RedisError):
    pass


class Calls:
    """All of one storage's commands, on few connections.

    Args:
        servers: where they go.
        label: what the servers are called in messages.
        retry_for: seconds after which no further attempt is made.
    """

    def __init__(self, servers: Servers, label: str, retry_for: float) -> None:
        self._servers = servers
        self._label = label
        self.retry_for = retry_for
        self._free: defaultdict[str, list[Wire]] = defaultdict(list)
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._closed = False

    def reopen(self) -> None:
        """Keep connections (again) from now on."""
        self._closed = False

    async def close(self) -> None:
        """End all connections; those in use end with their call."""
        self._closed = True
        free = [wire for wires in self._free.values() for wire in wires]
        self._free.clear()
        for wire in free:
            await wire.disconnect()

    async def locate(self) -> None:
        """See to it that the servers know where the keys are. Raises `StorageError`, or that they are unavailable."""
        call = Call(("PING",), name=b"any key will do")
        try:
            await self._servers.locate()
        except (driver.RedisError, OSError):
            await self.run([call])
        if isinstance(call.reply, StorageError):
            raise call.reply

    async def run(self, calls: Sequence[Call], replicas: int = 0) -> None:
        """Make calls, those of one server in one round trip. Their replies tell how each ended; nothing is raised.

        A call may reach a server twice; it must be one that then does nothing more.

        Args:
            calls: what to do.
            replicas: to how many replicas the changes must have come before a call counts as answered.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.retry_for
        pending = calls
        for delay in _delays():
            await self._attempt(pending, end - loop.time(), replicas)
            pending = [call for call in pending if call.fault is not None]
            if not pending:
                return
            if loop.time() + delay >= end:
                break
            if not all(call.unknown for call in pending):
                await asyncio.sleep(delay)
                await self._look_around(pending)
        for call in pending:
            assert call.fault is not None
            call.reply = StorageUnavailableError(
                f"{self._label} did not serve within {self.retry_for:g} s: {reason(call.fault)}. "
                "A change that was under way may have been made or not; try again later"
            )

    async def _attempt(self, calls: Sequence[Call], seconds: float, replicas: int) -> None:
        for call in calls:
            call.fault = _UNANSWERED
        try:
            async with asyncio.timeout(min(seconds, _SECONDS_OF_ATTEMPT)):
                await self._servers.locate()
                groups = self._by_place(calls)
                if len(groups) == 1:
                    ((place, group),) = groups.items()
                    await self._serve(place, group, replicas)
                else:
                    await asyncio.gather(*(self._serve(place, group, replicas) for place, group in groups.items()))
        except TimeoutError:
            pass
        except (driver.RedisError, OSError) as error:
            self._blame(calls, error)

    def _by_place(self, calls: Sequence[Call]) -> dict[str, list[Call]]:
        groups: defaultdict[str, list[Call]] = defaultdict(list)
        place_of = self._servers.place_of
        for call in calls:
            groups[place_of(call.name) if call.place is None else call.place].append(call)
        return groups

    async def _serve(self, place: str, calls: list[Call], replicas: int) -> None:
        async with self._turns:
            wire: Wire | None = None
            try:
                free = self._free[place]
                wire = free.pop() if free else self._servers.make(place)
                await wire.connect()
                await self._converse(wire, calls, replicas)
            except BaseException as error:
                if wire is not None:
                    await wire.disconnect(nowait=True)
                if not isinstance(error, driver.RedisError | OSError):
                    raise
                await self._distrust(place)
                self._blame(calls, error)
                return
            if self._closed:
                await wire.disconnect()
            else:
                self._free[place].append(wire)

    async def _converse(self, wire: Wire, calls: list[Call], replicas: int) -> None:
        scripts = {call.script for call in calls if call.unknown and call.script is not None}
        commands: list[Sequence[Word]] = [("SCRIPT", "LOAD", script.source) for script in scripts]
        for call in calls:
            if call.asking:
                commands.append(("ASKING",))
            commands.append(call.command)
        if replicas:
            commands.append(("WAIT", replicas, _MILLISECONDS_TO_REPLICATE))
        await wire.send_packed_command(packed(wire, commands), check_health=False)
        for _ in scripts:
            await _answer(wire)
        for call in calls:
            if call.asking:
                await _answer(wire)
            self._note(call, await _answer(wire))
        if replicas:
            reached = await _answer(wire)
            if not isinstance(reached, int) or reached < replicas:
                self._blame_again(calls, reached)

    def _note(self, call: Call, reply: object) -> None:
        call.unknown = isinstance(reply, driver.NoScriptError)
        if not call.unknown and call.name:
            call.place, call.asking = None, False
        if not isinstance(reply, Exception):
            call.reply, call.fault = reply, None
        elif is_transient(reply):
            call.fault = reply
            if isinstance(reply, driver.AskError):
                self._redirect(call, reply)
        else:
            call.reply, call.fault = self._error(reply), None

    def _redirect(self, call: Call, to: driver.AskError) -> None:
        slot, _, place = str(to).partition(" ")
        if place.startswith(":"):
            call.fault = driver.ClusterDownError("the server does not know where the slot has gone")
        elif isinstance(to, driver.MovedError):
            self._servers.moved(int(slot), place)
        else:
            call.place, call.asking = place, True

    def _blame(self, calls: Sequence[Call], error: Exception) -> None:
        """The calls that were not answered owe it to this error."""
        for call in calls:
            if call.fault is None:
                continue
            if is_transient(error):
                if call.fault is _UNANSWERED:
                    call.fault = error
            else:
                call.reply, call.fault = self._error(error), None

    def _blame_again(self, calls: Sequence[Call], reached: object) -> None:
        for call in calls:
            if call.fault is None and not isinstance(call.reply, StorageError):
                call.fault = _NotReplicatedError(f"{reached}")

    def _error(self, error: Exception) -> StorageError:
        return StorageError(f"{self._label} refused: {reason(error)}")

    async def _distrust(self, place: str) -> None:
        """Where one connection broke, those that lie idle are likely broken, too."""
        for wire in self._free.pop(place, ()):
            await wire.disconnect(nowait=True)

    async def _look_around(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if isinstance(call.fault, driver.ReadOnlyError):
                await self._distrust(call.place if call.place is not None else self._servers.place_of(call.name))
        if all(isinstance(call.fault, driver.AskError) for call in calls):
            return  # the answer told where to go
        try:
            await self._servers.relocate()
        except (driver.RedisError, OSError) as error:
            self._blame(calls, error)


_UNANSWERED = driver.TimeoutError()


async def _answer(wire: Wire) -> object:
    try:
        return await wire.read_response(disable_decoding=True)
    except driver.ResponseError as error:
        return error


def _delays() -> Iterator[float]:
    """Seconds before each further attempt: the first follows at once, as most connections that break were idle."""
    yield 0.0
    delay = 0.02
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, 0.5)
