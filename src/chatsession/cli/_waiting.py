"""What a person is told while a change waits for a bot's update."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from chatsession.cli._screen import note, safe
from chatsession.errors import shown
from chatsession.maintenance import LOCK_TIMEOUT

_PATIENCE = 0.5


@contextmanager
def says_it_waits(key: str) -> Generator[None]:
    """Say so if the change of a session does not happen soon."""
    message = f"waiting for the update that is running for {safe(shown(key))}, for {LOCK_TIMEOUT:.0f} s at most"
    timer = asyncio.get_running_loop().call_later(_PATIENCE, note, message, "yellow")
    try:
        yield
    finally:
        timer.cancel()
