"""A TCP proxy before NATS."""

from __future__ import annotations

import asyncio

from _proxy import CuttingProxy


class NatsProxy(CuttingProxy):
    """As `CuttingProxy`; knows when a change was answered.

    Attributes:
        rewrite: bytes of the server that clients see as others.
    """

    rewrite = (b"", b"")

    def shown(self, data: bytes) -> bytes:
        return data.replace(*self.rewrite) if self.rewrite[0] else data

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def answered(self, answers: asyncio.StreamReader) -> None:
        seen = b""
        while b'"seq"' not in seen and (more := await answers.read(65536)):
            seen += more
