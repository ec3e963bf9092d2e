"""A connection for scripts: redis-py makes it, hiredis reads and writes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from chatsession.storages.redis._errors import ReplyError
from chatsession.storages.redis._servers import Wire, Word

_INCOMPLETE = object()
_pack = cast("Callable[[tuple[Word, ...]], bytes]", getattr(hiredis, "pack_command"))  # noqa: B009 - its stub is wrong


class Link(asyncio.Protocol):
    """Sends commands and gathers their answers, with little in between: that is half of what a lone update costs.

    redis-py has connected it, with all that belongs to that: the search for the primary, TLS, the log-in. Then its
    transport is taken over, so that what arrives goes straight into the parser.
    """

    __slots__ = ("_answers", "_done", "_lost", "_missing", "_reader", "_transport", "_wire")

    def __init__(self, wire: Wire) -> None:
        made = cast("Any", wire)  # redis-py offers no other way to the transport than by these two
        self._wire = wire
        self._transport = cast("asyncio.Transport", made._writer.transport)
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_INCOMPLETE)
        self._answers: list[object] = []
        self._missing = 0
        self._done: asyncio.Future[None] | None = None
        self._lost = False
        self._transport.set_protocol(self)
        self._reader.feed(bytes(made._reader._buffer))

    async def ask(self, commands: Sequence[Sequence[Word]], seconds: float) -> list[object]:
        """Send commands together and return all answers; a command that the server refused has a `ReplyError`.

        After anything was raised, or the call cancelled, the link is of no use any more and must be closed.

        Raises:
            ConnectionError: it broke.
            TimeoutError: the answers were not there after so many seconds.
        """
        if self._lost or self._transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self._answers = []
        self._missing = len(commands)
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        self._transport.write(b"".join([_pack(tuple(command)) for command in commands]))
        alarm = loop.call_later(seconds, self._fail, TimeoutError())
        try:
            await self._done
        finally:
            alarm.cancel()
        return self._answers

    async def close(self) -> None:
        """End the connection at once."""
        self._transport.abort()
        await self._wire.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        gets, answers = self._reader.gets, self._answers
        try:
            self._reader.feed(data)
            while (answer := gets()) is not _INCOMPLETE:
                if not isinstance(answer, hiredis.PushNotification):  # a notice that nobody asked for
                    answers.append(answer)
        except hiredis.ProtocolError:
            self._transport.abort()
            return
        if len(answers) >= self._missing and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._fail(ConnectionResetError("the connection broke"))

    def _fail(self, error: OSError) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


async def connected(wire: Wire) -> Link:
    """Connect, log in, and take over. Raises what redis-py raises."""
    try:
        await wire.connect()
    except BaseException:
        await wire.disconnect(nowait=True)
        raise
    return Link(wire)
