"""A TCP proxy before MongoDB that counts round trips, cuts connections at a chosen moment, and swallows."""

from __future__ import annotations

import asyncio
import struct

from _proxy import Proxy

_UNCOUNTED = (b"\x01hello\0", b"\x10hello\0", b"\x08helloOk\0", b"\x10ismaster\0", b"\x01ismaster\0", b"\x10ping\0")


class MongoProxy(Proxy):
    """As `Proxy`; clients reach the server through it with `directConnection=true`.

    Attributes:
        trips: how many commands were sent, without those by which clients look after their connections.
        database: the name of the database in the URL.
    """

    def __init__(self, port: int, database: str = "bot") -> None:
        super().__init__(port)
        self.trips = 0
        self._epoch = 0
        self._database = database

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{self._database}?directConnection=true"

    def blackhole(self) -> None:
        """Swallow from now on what comes on the connections that are open now, as a firewall that forgot them."""
        self._epoch += 1

    async def link(
        self,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        epoch = self._epoch
        cut = asyncio.Event()

        async def forward() -> None:
            while True:
                message = await _message(requests)
                if not any(name in message[:64] for name in _UNCOUNTED):
                    self.trips += 1
                if self.cut_before is not None and self.cut_before in message:
                    self.cut_before = None
                    self.was_cut.set()
                    return
                if self.cut_after is not None and self.cut_after in message:
                    self.cut_after = None
                    cut.set()
                if epoch == self._epoch:
                    server.write(message)

        async def answer() -> None:
            while True:
                message = await _message(answers)
                if cut.is_set():
                    self.was_cut.set()
                    return
                if epoch == self._epoch:
                    client.write(message)

        both = [asyncio.create_task(forward()), asyncio.create_task(answer())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    (size,) = struct.unpack("<i", head)
    return head + await reader.readexactly(size - 4)
