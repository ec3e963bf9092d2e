"""A TCP proxy before NATS that cuts a connection at a chosen moment, and lets no new one through."""

from __future__ import annotations

import asyncio

from _proxy import CuttingProxy


class NatsProxy(CuttingProxy):
    """As `CuttingProxy`.

    Attributes:
        closed: no new connection is let through.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.closed = False

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def lets_in(self) -> bool:
        return not self.closed

    async def answered(self, answers: asyncio.StreamReader) -> None:
        seen = b""
        while b'"seq"' not in seen and (more := await answers.read(65536)):
            seen += more
