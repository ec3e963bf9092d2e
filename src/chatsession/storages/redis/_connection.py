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
from redis.exceptions import InvalidResponse

from chatsession.storages.redis._errors import ReplyError

Word = bytes | str | int
"""A part of a command."""
LARGE = 2048
"""Bytes of a value, as in `locks.lua`. From this size on it is sent by a command of its own, because Lua hashes every
byte of a string that it gets."""

_INCOMPLETE = object()
_pack_small = cast("Callable[[tuple[Word, ...]], bytes]", getattr(hiredis, "pack_command"))  # noqa: B009 - stub is wrong


class Wire(Protocol):
    """The part of redis-py's connections that is used."""

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
    """Sends commands and collects their replies with little overhead, which is half the cost of a lone update.

    redis-py connects it: it finds the primary, starts TLS and logs in. Then this object takes its transport over, so
    that replies go straight into the parser.
    """

    __slots__ = ("_answers", "_done", "_loop", "_lost", "_missing", "_reader", "_transport", "_wire", "used")

    def __init__(self, wire: Wire) -> None:
        made = cast("Any", wire)  # redis-py offers no other way to the transport than by these two
        self._wire = wire
        self._transport = cast("asyncio.Transport", made._writer.transport)
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_INCOMPLETE)
        self._answers: list[object] = []
        self._missing = 0
        self._done: asyncio.Future[None] | None = None
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self.used = self._loop.time()
        """When the last reply arrived, by the event loop's clock."""
        self._transport.set_protocol(self)
        self._reader.feed(bytes(made._reader._buffer))

    async def ask(self, commands: Sequence[Sequence[Word]], seconds: float) -> list[object]:
        """Send commands together and return all replies; an error reply is returned as a `ReplyError`.

        An error that ends the connection is also the reply to the commands after it. The link is closed then.

        After an exception or a cancellation the link is unusable and must be closed.

        Raises:
            ConnectionError: the connection broke.
            TimeoutError: not all replies arrived within this many seconds.
        """
        loop = asyncio.get_running_loop()
        if self.is_closed or loop is not self._loop:
            raise ConnectionResetError("the connection was closed")
        self._answers = []
        self._missing = len(commands)
        self._done = loop.create_future()
        self._transport.writelines([piece for command in commands for piece in _pack(command)])
        alarm = loop.call_later(seconds, self._fail, TimeoutError())
        try:
            await self._done
        finally:
            alarm.cancel()
        self.used = loop.time()
        return self._answers

    @property
    def is_closed(self) -> bool:
        """Whether no further commands can be sent."""
        return self._lost or self._transport.is_closing()

    def close(self) -> None:
        """Close the connection at once."""
        abort(self._wire)

    def data_received(self, data: bytes) -> None:
        gets, answers = self._reader.gets, self._answers
        try:
            self._reader.feed(data)
            while (answer := gets()) is not _INCOMPLETE:
                if not isinstance(answer, hiredis.PushNotification):  # not a reply to a command
                    answers.append(answer)
        except hiredis.ProtocolError:
            self._transport.abort()
            return
        if answers and isinstance(answers[-1], ReplyError) and answers[-1].ends_connection:
            answers += answers[-1:] * (self._missing - len(answers))
            self._transport.abort()
        if len(answers) >= self._missing and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._fail(ConnectionResetError("the connection broke"))

    def _fail(self, error: OSError) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


def _pack(command: Sequence[Word]) -> Sequence[bytes]:
    """Return the bytes of a command, in pieces."""
    if command[0] != "SET":
        return (_pack_small(tuple(command)),)
    # Only large values are sent by this command, and hiredis would copy them three times.
    pieces = [b"*%d\r\n" % len(command)]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode()
        pieces += (b"$%d\r\n" % len(data), data, b"\r\n")
    return pieces


async def connected(wire: Wire) -> Link:
    """Connect, log in, and take the transport over. Raises what redis-py raises."""
    try:
        await wire.connect()
    except BaseException as error:
        abort(wire)
        # A ValueError: redis-py failed to read an error reply. But a refused certificate is one, too.
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise InvalidResponse from error
        raise
    return Link(wire)


def take_over(connection: object) -> Wire:
    """Make a connection of redis-py leave retries to `Calls`, and close at once where it fails to connect.

    redis-py ends TLS properly: the socket stays until the server has answered, and outlives the event loop.
    """
    wire = cast("Wire", connection)
    wire.retry = Retry(NoBackoff(), 0)

    async def disconnect(*_: object, **__: object) -> None:
        abort(wire)

    wire.disconnect = disconnect
    return wire


def abort(wire: Wire) -> None:
    """Close a connection at once, without awaiting: this also runs when a task is only cleaned up."""
    made = cast("Any", wire)
    if made._writer is None:
        return
    try:
        made._writer.transport.abort()
    except RuntimeError:  # its event loop is closed
        discard(wire)
    made._writer = made._reader = None


def discard(connection: object) -> None:
    """Drop a connection that belongs to a closed event loop, or to the process that this one was forked from.

    Nothing is sent to the server, not even the end of TLS: after a fork, the parent still uses the same socket.
    """
    made = cast("Any", connection)
    writer, made._writer, made._reader = made._writer, None, None
    if writer is None:
        return
    transport = writer.transport
    plain = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
    _disconnect_descriptor(transport)
    # The loop will never run the callback that ends a transport, so it is called here to avoid a ResourceWarning.
    with suppress(Exception):
        transport.set_protocol(asyncio.Protocol())
    for each in (transport, plain):
        with suppress(Exception):
            each.abort()
    with suppress(Exception):
        if plain._loop.is_closed():  # otherwise `abort` has left it to the loop
            plain._call_connection_lost(None)


def _disconnect_descriptor(transport: asyncio.BaseTransport) -> None:
    """Replace the socket of a descriptor, so that no finalizer can reach the server.

    A child shares the epoll instance of its parent. Closing the transport normally would remove the parent's socket
    from it, and the parent would receive nothing more.
    """
    connected = transport.get_extra_info("socket")
    if os.name != "posix" or connected is None or connected.fileno() < 0:
        return
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, connected.fileno(), inheritable=False)
    finally:
        os.close(nowhere)
