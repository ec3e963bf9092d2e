"""A TCP proxy before Redis that counts round trips, and cuts or delays at a chosen moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class RedisProxy:
    """Stands before a server, as an async context manager; set its attributes to do harm.

    Attributes:
        cut_before: a connection is cut instead of passing on what contains these bytes; once.
        cut_after: the same, after the server has done it, and without passing its answer on; once.
        late: what contains these bytes is kept back and the connection cut; `deliver` sends it after all; once.
        was_cut: one of these has happened.
        round_trips: how often something was sent to which an answer came.
        connections: how many were made.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None
        self.late: bytes | None = None
        self.was_cut = asyncio.Event()
        self.round_trips = 0
        self.connections = 0
        self._kept_back = b""

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def deliver(self) -> bytes:
        """Send what was kept back, on a new connection, and give the answer."""
        answers, server = await asyncio.open_connection("127.0.0.1", self._port)
        server.write(self._kept_back)
        answer = await answers.read(65536)
        server.transport.abort()
        return answer

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        server: asyncio.StreamWriter | None = None
        with suppress(OSError, asyncio.CancelledError):
            try:
                answers, server = await asyncio.open_connection("127.0.0.1", self._port)
                passing_on = asyncio.create_task(self._pass_on(answers, client))
                try:
                    await self._forward(requests, server, answers, passing_on)
                finally:
                    passing_on.cancel()
                    await asyncio.wait([passing_on])
            finally:
                for each in (client, server):
                    if each is not None:
                        each.transport.abort()

    async def _forward(
        self,
        requests: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        passing_on: asyncio.Task[None],
    ) -> None:
        while data := await requests.read(1 << 20):
            if self.cut_before is not None and self.cut_before in data:
                self.cut_before = None
                self.was_cut.set()
                return
            if self.late is not None and self.late in data:
                self.late = None
                self._kept_back = data
                self.was_cut.set()
                return
            if self.cut_after is not None and self.cut_after in data:
                self.cut_after = None
                passing_on.cancel()
                await asyncio.wait([passing_on])
                server.write(data)
                await answers.read(65536)
                self.was_cut.set()
                return
            server.write(data)

    async def _pass_on(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await answers.read(1 << 20):
            self.round_trips += 1
            client.write(data)
