"""A TCP proxy before Redis that counts round trips, and cuts or delays at a chosen moment."""

from __future__ import annotations

import asyncio

from _proxy import CuttingProxy


class RedisProxy(CuttingProxy):
    """As `CuttingProxy`.

    Attributes:
        late: what contains these bytes is kept back and the connection cut; `deliver` sends it after all; once.
        round_trips: how often something was sent to which an answer came.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.late: bytes | None = None
        self.round_trips = 0
        self._kept_back = b""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def deliver(self) -> bytes:
        """Send what was kept back, on a new connection, and give the answer."""
        answers, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        server.write(self._kept_back)
        answer = await answers.read(65536)
        server.transport.abort()
        return answer

    def swallows(self, data: bytes) -> bool:
        if super().swallows(data):
            return True
        if self.late is None or self.late not in data:
            return False
        self.late = None
        self._kept_back = data
        return True

    def passed_back(self) -> None:
        self.round_trips += 1
