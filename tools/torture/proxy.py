"""A TCP proxy between workers and a server, which cuts, stalls, delays, half-closes and refuses connections."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Self


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class Proxy:
    """Stands before a port of 127.0.0.1; an async context manager. Set its attributes to do harm.

    Attributes:
        refusing: new connections are cut at once.
        delay: seconds by which bytes of a direction come late.
        accepted: how many connections there have been.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self.refusing = False
        self.accepted = 0
        self.delay: dict[Direction, float] = {}
        self._stalled: set[Direction] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self).client, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        connecting = {link.connecting for link in self._links if link.connecting is not None}
        for task in connecting:
            task.cancel()
        if connecting:
            await asyncio.wait(connecting)
        self.cut()
        await asyncio.sleep(0)  # in the next turn of the loop the sockets are closed

    def links(self) -> list[Link]:
        """The connections that there are."""
        return list(self._links)

    def cut(self) -> None:
        """Reset all connections."""
        for link in self.links():
            link.cut()

    def is_stalled(self, direction: Direction) -> bool:
        """Is nothing passed on this way?"""
        return direction in self._stalled

    def stall(self, *directions: Direction) -> None:
        """Pass nothing on any more; it is kept."""
        self._stalled.update(directions)

    def resume(self) -> None:
        """Pass on what was kept, and all that comes."""
        self._stalled.clear()
        for link in self.links():
            link.flush()


class Link:
    """One connection, with an end towards the client and one towards the server."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client = _End(self, Direction.TO_SERVER)
        self.server = _End(self, Direction.TO_CLIENT)
        self.client.other, self.server.other = self.server, self.client
        self.connecting: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        self.proxy.accepted += 1
        if self.proxy.refusing:
            self.cut()
            return
        self.proxy._links.add(self)
        self.connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, "127.0.0.1", self.proxy._upstream)
        except OSError:
            self.cut()

    def cut(self) -> None:
        self.proxy._links.discard(self)
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.abort()

    def half_close(self, direction: Direction) -> None:
        """Tell the one that bytes of this direction go to that there are no more, as if the other had said so."""
        end = self.server if direction is Direction.TO_SERVER else self.client
        if end.transport is not None and not end.transport.is_closing() and end.transport.can_write_eof():
            end.transport.write_eof()
            end.closed = True

    def flush(self) -> None:
        self.client.flush()
        self.server.flush()


class _End(asyncio.Protocol):
    """Takes bytes of one direction, and passes them to the other end."""

    def __init__(self, link: Link, direction: Direction) -> None:
        self._link = link
        self._direction = direction
        self.other: _End = self
        self.transport: asyncio.Transport | None = None
        self.closed = False
        """No more can be written to it."""
        self._cache: list[bytes] = []
        self._last_due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self is self._link.client:
            self._link.accepted()
        elif self.other.transport is None or self.other.transport.is_closing():
            transport.abort()
        else:
            self.other.flush()

    def data_received(self, data: bytes) -> None:
        proxy = self._link.proxy
        if self._cache or self.other.transport is None or proxy.is_stalled(self._direction):
            self._cache.append(data)
            return
        delay = proxy.delay.get(self._direction, 0.0)
        if not delay and not self._last_due:
            self._pass(data)
            return
        loop = asyncio.get_running_loop()
        self._last_due = due = max(self._last_due, loop.time() + delay)
        loop.call_at(due, self._pass_late, data, due)

    def flush(self) -> None:
        if self.other.transport is None or self._link.proxy.is_stalled(self._direction):
            return
        kept, self._cache = self._cache, []
        if kept:
            self.data_received(b"".join(kept))

    def eof_received(self) -> None:
        self._link.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.cut()

    def _pass_late(self, data: bytes, due: float) -> None:
        if self._last_due == due:
            self._last_due = 0.0
        self._pass(data)

    def _pass(self, data: bytes) -> None:
        other = self.other
        if other.transport is not None and not other.closed and not other.transport.is_closing():
            other.transport.write(data)
