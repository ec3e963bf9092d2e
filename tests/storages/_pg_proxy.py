"""A TCP proxy before PostgreSQL that counts round trips, cuts connections at a chosen moment, and stalls."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from _proxy import Proxy


class PgProxy(Proxy):
    """As `Proxy`.

    Attributes:
        trips: how often a client has waited for an answer since it was logged in.
        cuts: how often a connection was cut.
        stalled: nothing is passed on any more.
        rewrite: bytes of the server that clients see as others, of the same length.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        assert self._parts.port is not None
        super().__init__(self._parts.port)
        self.trips = 0
        self.cuts = 0
        self._epoch = 0
        self.stalled = False
        self.rewrite: tuple[bytes, bytes] | None = None

    @property
    def url(self) -> str:
        login = f"{self._parts.username}:{self._parts.password}"
        return self._parts._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()

    def blackhole(self) -> None:
        """Swallow from now on what comes on the connections that are open now, as a firewall that forgot them."""
        self._epoch += 1

    def count_cut(self) -> None:
        self.cuts += 1
        self.was_cut.set()

    async def link(
        self,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        await _Link(self, requests, client, answers, server).run()


class _Link:
    def __init__(
        self,
        proxy: PgProxy,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._requests = requests
        self._client = client
        self._answers = answers
        self._server = server
        self._cut = False
        self._epoch = proxy._epoch

    @property
    def _swallows(self) -> bool:
        return self._proxy.stalled or self._epoch != self._proxy._epoch

    async def run(self) -> None:
        both = [asyncio.create_task(self._forward()), asyncio.create_task(self._answer())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)
            for task in both:
                if not task.cancelled():
                    task.exception()

    async def _forward(self) -> None:
        logged_in = False
        while True:
            # Before a client has said who it is its messages have no type.
            kind = await self._requests.readexactly(1) if logged_in else b""
            size = await self._requests.readexactly(4)
            body = await self._requests.readexactly(int.from_bytes(size) - 4)
            message = kind + size + body
            proxy = self._proxy
            if not logged_in:
                logged_in = body[:2] == b"\0\x03"  # the version of the protocol; all else are requests before it
            elif kind in b"SHQ":  # Sync, Flush and Query are answered
                proxy.trips += 1
            if proxy.cut_before is not None and proxy.cut_before in message:
                proxy.cut_before = None
                proxy.count_cut()
                return
            if proxy.cut_after is not None and proxy.cut_after in message:
                proxy.cut_after = None
                self._cut = True
            if not self._swallows:
                self._server.write(message)
                await self._server.drain()

    async def _answer(self) -> None:
        while data := await self._answers.read(65536):
            if self._cut:
                self._proxy.count_cut()
                return
            if self._proxy.rewrite is not None:
                data = data.replace(*self._proxy.rewrite)
            if not self._swallows:
                self._client.write(data)
                await self._client.drain()
