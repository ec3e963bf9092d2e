"""Measures the server's time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from chatsession.storages._shared.clock import ServerClock
from chatsession.storages.mongo._connection import Client

_QUESTIONS = 3


async def measure(clock: ServerClock, client: Client) -> None:
    """Ask the primary for its time a few times, and use the fastest answer."""
    fastest = float("inf")
    for _ in range(_QUESTIONS):
        asked = time.monotonic()
        answer = await client.admin.command("hello")
        if time.monotonic() - asked < fastest:
            fastest = time.monotonic() - asked
            server_time: datetime = answer["localTime"]
            clock.set(server_time.replace(tzinfo=UTC).timestamp(), asked)
