"""Sends commands: many in one round trip, with retries where they may help, and within a bound of time."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

from redis import exceptions as driver

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages._shared.clock import ServerClock
from chatsession.storages._shared.retries import retried
from chatsession.storages.redis._call import Call
from chatsession.storages.redis._connection import Link, Word, connected
from chatsession.storages.redis._errors import ReplyError, is_transient, reason
from chatsession.storages.redis._names import SLOTS
from chatsession.storages.redis._servers import Servers

_CONNECTIONS = 8
"""The most connections to one server."""
_SECONDS_OF_ATTEMPT = 6.0
_SECONDS_UNTIL_DOUBTFUL = 5.0
"""A firewall may have forgotten a connection that was silent for this long."""
_SECONDS_OF_DOUBTFUL_ATTEMPT = 1.5
_MOST_MISSES = 20
"""After this many calls in a row with an unknown digest, scripts are always sent as text."""
_SECONDS_TO_REPLICATE = 1.0
_REDIRECTION = re.compile(r"[A-Z]+ (?P<slot>\d{1,5}) (?P<place>[^ ]+:\d{1,5})")


class Calls:
    """Sends all commands of one storage, on few connections.

    Args:
        servers: where the commands go.
        label: what the servers are called in messages.
        retry_for: seconds after which no further attempt is made.
    """

    def __init__(self, servers: Servers, label: str, retry_for: float) -> None:
        self.servers = servers
        self.label = label
        self.retry_for = retry_for
        self._free: defaultdict[str, list[Link]] = defaultdict(list)
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_CONNECTIONS))
        self._closed = False
        self._misses = 0
        self.clock = ServerClock()
        """Measured with the first command, and again periodically."""

    def reopen(self) -> None:
        """Keep connections from now on, also after `close`."""
        self._closed = False

    async def close(self) -> None:
        """Close all connections; those in use are closed when their call ends."""
        self._closed = True
        for place in list(self._free):
            self._drop_idle(place)

    async def locate(self) -> None:
        """Find out which server has which keys. Raises `StorageError` or `StorageUnavailableError`."""
        if not self.servers.located:
            ping = Call(("PING",), name=b"any key will do")
            await self.run([ping])
            ping.reply()

    async def run(self, calls: Sequence[Call], replicas: int = 0) -> None:
        """Make calls, those of one server in one round trip. Each call holds its own outcome; nothing is raised.

        A call may reach a server twice, and must have no further effect the second time.

        Args:
            calls: the commands.
            replicas: how many replicas must have the changes before a call counts as answered.
        """
        if not calls:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self.retry_for
        await self._attempt(calls, self.retry_for, replicas)
        pending = [call for call in calls if not call.done]
        if pending:
            await self._retry(pending, end, replicas)

    async def _retry(self, pending: Sequence[Call], end: float, replicas: int) -> None:
        """Retry the calls that failed, until `end`."""
        loop = asyncio.get_running_loop()
        for delay in _delays():
            if loop.time() + delay >= end:
                break
            retried("Redis")
            if not all(call.unknown for call in pending):
                await asyncio.sleep(delay)
                await self._find_servers(pending)
            await self._attempt(pending, end - loop.time(), replicas)
            pending = [call for call in pending if not call.done]
            if not pending:
                return
        for call in pending:
            assert call.fault is not None
            call.error = StorageUnavailableError(
                f"{self.label} did not serve within {self.retry_for:g} s: {reason(call.fault)}. "
                "A change that was under way may have been made or not; try again later"
            )

    async def _attempt(self, calls: Sequence[Call], seconds: float, replicas: int) -> None:
        seconds = min(seconds, _SECONDS_OF_ATTEMPT)
        try:
            if not self.servers.located:
                async with asyncio.timeout(seconds):
                    await self.servers.relocate()
        except (ReplyError, driver.RedisError, OSError) as error:
            self._record_failure(calls, error)
            return
        if not self.servers.clustered:
            await self._serve("", calls, seconds, replicas)
        else:
            groups = self._by_place(calls)
            await asyncio.gather(*(self._serve(place, group, seconds, replicas) for place, group in groups.items()))

    def _by_place(self, calls: Sequence[Call]) -> dict[str, list[Call]]:
        groups: defaultdict[str, list[Call]] = defaultdict(list)
        place_of = self.servers.place_of
        for call in calls:
            groups[place_of(call.name) if call.place is None else call.place].append(call)
        return groups

    async def _serve(self, place: str, calls: Sequence[Call], seconds: float, replicas: int) -> None:
        await self._turns[place].acquire()
        link: Link | None = None
        try:
            free = self._free[place]
            if free:
                link = free.pop()
                # Calls may be repeated safely, so the worst that a short timeout costs is a new connection.
                if asyncio.get_running_loop().time() - link.used > _SECONDS_UNTIL_DOUBTFUL:
                    seconds = min(seconds, _SECONDS_OF_DOUBTFUL_ATTEMPT)
            else:
                async with asyncio.timeout(seconds):
                    link = await connected(self.servers.make(place))
            await self._exchange(link, calls, seconds, replicas)
        except BaseException as error:
            if link is not None:
                link.close()
            if not isinstance(error, driver.RedisError | OSError):
                raise
            self._drop_idle(place)
            self._record_failure(calls, error)
        else:
            if self._closed or link.is_closed:
                link.close()
            else:
                self._free[place].append(link)
        finally:
            self._turns[place].release()

    async def _exchange(self, link: Link, calls: Sequence[Call], seconds: float, replicas: int) -> None:
        commands: list[Sequence[Word]] = []
        asks_time = self.clock.is_due()
        if asks_time:
            commands.append(("TIME",))
        for call in calls:
            for words in self._commands_of(call):
                if call.asking:
                    commands.append(("ASKING",))
                commands.append(words)
        if replicas:
            commands.append(("WAIT", replicas, int(1000 * min(seconds / 2, _SECONDS_TO_REPLICATE))))
        answers = iter(await link.ask(commands, seconds))
        if asks_time:
            self.clock.set(_time_of(next(answers)), time.monotonic())
        for call in calls:
            by_digest = call.script is not None and not self._by_text(call)
            step = 2 if call.asking else 1
            self._record_replies(call, list(islice(answers, step * len(call.commands)))[step - 1 :: step])
            if by_digest:
                self._count_misses(call)
        if replicas:
            self._check_replicas(calls, next(answers), replicas)

    def _commands_of(self, call: Call) -> Sequence[Sequence[Word]]:
        if call.script is None or not self._by_text(call):
            return call.commands
        # Some proxies pass on neither SCRIPT LOAD nor EVALSHA, or ask another server each time.
        text = call.script.source
        return [("EVAL", text, *words[2:]) if words[0] == "EVALSHA" else words for words in call.commands]

    def _by_text(self, call: Call) -> bool:
        return call.unknown or self._misses >= _MOST_MISSES

    def _count_misses(self, call: Call) -> None:
        if not call.unknown:
            self._misses = 0
        elif isinstance(call.fault, ReplyError) and call.fault.code == "NOSCRIPT":
            self._misses += 1
        else:
            self._misses = _MOST_MISSES  # the command itself is unknown

    def _record_replies(self, call: Call, replies: Sequence[object]) -> None:
        refusal = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
        if refusal is None:
            call.replies, call.done = replies, True
            return
        call.unknown = not call.unknown and call.script is not None and refusal.is_missing_script
        if not call.unknown and call.name:
            call.place, call.asking = None, False
        if is_transient(refusal) or call.unknown:
            call.fault = refusal
            if refusal.code in ("MOVED", "ASK"):
                self._redirect(call, refusal)
        else:
            call.error, call.done, call.unread = self._error(refusal), True, refusal.ends_connection

    def _redirect(self, call: Call, refusal: ReplyError) -> None:
        named = _REDIRECTION.fullmatch(str(refusal))
        if named is None or int(named["slot"]) >= SLOTS:
            call.fault = ReplyError("CLUSTERDOWN it is not known where the slot has gone")
        elif refusal.code == "MOVED":
            self.servers.moved(int(named["slot"]), named["place"])
        else:
            call.place, call.asking = named["place"], True

    def _check_replicas(self, calls: Sequence[Call], reached: object, wanted: int) -> None:
        if isinstance(reached, int) and reached >= wanted:
            return
        for call in calls:
            if call.done and call.error is None:
                call.done = False
                call.fault = reached if isinstance(reached, ReplyError) else ReplyError("REPLICAS are missing")

    def _record_failure(self, calls: Sequence[Call], error: Exception) -> None:
        """Record the error in the calls that were not answered."""
        for call in calls:
            if call.done:
                continue
            if not is_transient(error):
                call.error, call.done = self._error(error), True
            elif call.fault is None or not isinstance(error, TimeoutError):
                call.fault = error  # a timeout of the short last attempt says less than the error before

    def _error(self, error: Exception) -> StorageError:
        return StorageError(f"{self.label} refused: {reason(error)}")

    def _drop_idle(self, place: str) -> None:
        """Close the idle connections to a server: where one broke, the others are probably broken too."""
        for link in self._free.pop(place, ()):
            link.close()

    async def _find_servers(self, calls: Sequence[Call]) -> None:
        codes = {call.fault.code if isinstance(call.fault, ReplyError) else None for call in calls}
        if codes <= {"MOVED", "ASK"}:
            return  # the reply named the right server
        if "READONLY" in codes:
            for place in list(self._free):
                self._drop_idle(place)
        try:
            await self.servers.relocate()
        except (ReplyError, driver.RedisError, OSError) as error:
            self._record_failure(calls, error)


def _time_of(answer: object) -> float:
    """Read the reply to `TIME`, in Unix seconds; after an error reply, this machine's time is used."""
    if not isinstance(answer, list):
        return time.time()
    seconds, micros = cast("list[bytes]", answer)
    return int(seconds) + int(micros) / 1_000_000


def _delays() -> Iterator[float]:
    """Seconds before each retry. The first follows at once, because most connections that break were idle."""
    yield 0.0
    delay = 0.02
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, 0.5)
