"""A TCP proxy before MongoDB that counts round trips, cuts connections at a chosen moment, and swallows."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

from _proxy import Proxy

_UNCOUNTED = (b"\x01hello\0", b"\x10hello\0", b"\x08helloOk\0", b"\x10ismaster\0", b"\x01ismaster\0", b"\x10ping\0")


class MongoProxy(Proxy):
    """As `Proxy`; clients reach the server through it with `directConnection=true`.

    Attributes:
        trips: how many commands were sent, without those by which clients look after their connections.
        passed_on: such a command was.
        hold_back: a connection is cut when this comes, and what came is kept until `deliver`; once.
        silent_until: no command is answered before so many were sent.
        instead: what answers say, and what they are to say instead; of the same length.
        database: the name of the database in the URL.
    """

    def __init__(self, port: int, database: str = "bot") -> None:
        super().__init__(port)
        self.trips = 0
        self.silent_until = 0
        self.instead: tuple[bytes, bytes] = (b"", b"")
        self.passed_on = asyncio.Event()
        self.hold_back: bytes | None = None
        self._kept = b""
        self._late: list[asyncio.StreamWriter] = []
        self._epoch = 0
        self._database = database

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{self._database}?directConnection=true"

    @property
    def direct_url(self) -> str:
        """Of the server itself."""
        return f"mongodb://127.0.0.1:{self._upstream}/{self._database}?directConnection=true"

    async def __aexit__(self, *_: object) -> None:
        for server in self._late:
            server.transport.abort()
        await super().__aexit__(*_)

    def blackhole(self) -> None:
        """Swallow from now on what comes on the connections that are open now, as a firewall that forgot them."""
        self._epoch += 1

    async def deliver(self) -> None:
        """Let the server have what was held back, as a slow network does, and wait for its answer if it is prompt."""
        answers, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        server.write(self._kept)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await _message(answers)
        self._late.append(server)  # it may still be under way

    async def link(
        self,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        epoch = self._epoch
        cut, has_sent_commands = asyncio.Event(), asyncio.Event()

        async def forward() -> None:
            while True:
                message = await _message(requests)
                is_command = not any(name in message[:64] for name in _UNCOUNTED)
                self.trips += is_command
                if self.cut_before is not None and self.cut_before in message:
                    self.cut_before = None
                    self.was_cut.set()
                    return
                if self.hold_back is not None and self.hold_back in message:
                    self.hold_back, self._kept = None, message
                    self.was_cut.set()
                    return
                if self.cut_after is not None and self.cut_after in message:
                    self.cut_after = None
                    cut.set()
                if epoch == self._epoch:
                    server.write(message)
                    if is_command:
                        has_sent_commands.set()
                        self.passed_on.set()

        async def answer() -> None:
            while True:
                message = await _message(answers)
                while has_sent_commands.is_set() and self.trips < self.silent_until:
                    self.passed_on.clear()
                    await self.passed_on.wait()
                if cut.is_set():
                    self.was_cut.set()
                    return
                if epoch == self._epoch:
                    client.write(message.replace(*self.instead) if self.instead[0] else message)

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
