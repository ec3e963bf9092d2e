"""A TCP proxy before a server of the tests: its life, and connections cut at a chosen moment."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self

from tools.servers._process import free_ports


class Proxy(ABC):
    """Stands before a server, as an async context manager; a subclass says what it does with a connection.

    Attributes:
        cut_before: a connection is cut instead of passing on what contains these bytes; once.
        cut_after: the same, after the server has answered, and without passing its answer on; once.
        was_cut: a connection has been.
        port: where it listens.
        connections: how many were made.
    """

    def __init__(self, port: int) -> None:
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None
        self.was_cut = asyncio.Event()
        self.port = free_ports(1)[0]
        self.connections = 0
        self._upstream = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Let connections in (again)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def shut(self) -> None:
        """Refuse new connections; those that are there stay."""
        assert self._server is not None
        self._server.close()

    async def __aexit__(self, *_: object) -> None:
        self.shut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @abstractmethod
    async def link(
        self,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        """Pass on what comes; both connections are cut when this returns."""

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server: asyncio.StreamWriter | None = None
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                self.connections += 1
                answers, server = await asyncio.open_connection("127.0.0.1", self._upstream)
                await self.link(requests, client, answers, server)
            finally:
                for each in (client, server):
                    if each is not None:
                        each.transport.abort()


class CuttingProxy(Proxy):
    """Cuts a connection at a chosen moment; set its attributes to do harm."""

    async def answered(self, answers: asyncio.StreamReader) -> None:
        """Return when the server has answered what it was sent."""
        await answers.read(65536)

    def swallows(self, data: bytes) -> bool:
        """Is the connection cut instead of passing this on?"""
        if self.cut_before is None or self.cut_before not in data:
            return False
        self.cut_before = None
        return True

    def seen(self, data: bytes) -> bytes:
        """What is passed on of something that came."""
        return data

    def shown(self, data: bytes) -> bytes:
        """What clients see of something that the server sent."""
        return data

    def passed_back(self) -> None:
        """Something came back from the server."""

    async def link(
        self,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        passing_back = asyncio.create_task(self._pass_back(answers, client))
        try:
            while came := await requests.read(1 << 20):
                data = self.seen(came)
                if self.swallows(data):
                    self.was_cut.set()
                    return
                if self.cut_after is not None and self.cut_after in data:
                    self.cut_after = None
                    passing_back.cancel()
                    await asyncio.wait([passing_back])
                    server.write(data)
                    await self.answered(answers)
                    self.was_cut.set()
                    return
                server.write(data)
        finally:
            passing_back.cancel()
            await asyncio.wait([passing_back])

    async def _pass_back(self, answers: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await answers.read(1 << 20):
            self.passed_back()
            client.write(self.shown(data))
