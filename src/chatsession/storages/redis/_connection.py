"""One connection: redis-py makes it, hiredis reads and writes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chatsession.storages.redis._errors import ReplyError

Word = bytes | str | int
"""A part of a command."""

_INCOMPLETE = object()
_pack = cast("Callable[[tuple[Word, ...]], bytes]", getattr(hiredis, "pack_command"))  # noqa: B009 - its stub is wrong


class Wire(Protocol):
    """What is used of redis-py's connections."""

    retry: Retry

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    def pack_commands(self, commands: Iterable[Sequence[Word]]) -> list[bytes]: ...
    async def send_packed_command(self, command: Iterable[bytes], check_health: bool = True) -> None: ...
    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> object: ...


class Link(asyncio.Protocol):
    """Sends commands and gathers their answers, with little in between: that is half of what a lone update costs.

    redis-py has connected it, with all that belongs to that: the search for the primary, TLS, the log-in. Then its
    transport is taken over, so that what arrives goes straight into the parser.
    """

    __slots__ = ("_answers", "_done", "_lost", "_missing", "_reader", "_transport", "_wire", "used")

    def __init__(self, wire: Wire) -> None:
        made = cast("Any", wire)  # redis-py offers no other way to the transport than by these two
        self._wire = wire
        self._transport = cast("asyncio.Transport", made._writer.transport)
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_INCOMPLETE)
        self._answers: list[object] = []
        self._missing = 0
        self._done: asyncio.Future[None] | None = None
        self._lost = False
        self.used = asyncio.get_running_loop().time()
        """When it was last known to work, by the event loop's clock."""
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
        self.used = loop.time()
        return self._answers

    def close(self) -> None:
        """End the connection at once."""
        hang_up(self._wire)

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


def once(connection: object) -> Wire:
    """A connection that tries once: how often to try again, and where, is decided in one place for all."""
    wire = cast("Wire", connection)
    wire.retry = Retry(NoBackoff(), 0)
    return wire


def hang_up(wire: Wire) -> None:
    """End a connection at once, and without waiting: also when its task is not run any more, only cleaned up."""
    made = cast("Any", wire)
    writer, made._writer, made._reader = made._writer, None, None
    if writer is not None:
        writer.transport.abort()


def discard(connection: object) -> None:
    """Drop a connection that belongs to a closed event loop, or to the process that this one was forked from.

    The server is sent nothing, not even the end of TLS: after a fork, the parent still uses the same socket.
    """
    made = cast("Any", connection)
    writer, made._writer, made._reader = made._writer, None, None
    if writer is None:
        return
    transport = writer.transport
    plain = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
    _disconnect_descriptor(transport)
    # Neither loop will ever run the callbacks by which a transport ends; without its end, a warning would follow.
    with suppress(Exception):
        transport.set_protocol(asyncio.Protocol())
    for each in (transport, plain):
        with suppress(Exception):
            each.abort()
    with suppress(Exception):
        plain._call_connection_lost(None)


def _disconnect_descriptor(transport: asyncio.BaseTransport) -> None:
    """Let the descriptor lead nowhere, so that no finalizer can reach the server.

    A child shares the epoll instance of its parent. Closing the transport as it is would take the parent's socket out
    of it, and the parent would never hear from its server again.
    """
    connected = transport.get_extra_info("socket")
    if os.name != "posix" or connected is None or connected.fileno() < 0:
        return
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, connected.fileno(), inheritable=False)
    finally:
        os.close(nowhere)
