"""Tells the user that a change waits for a running update."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from chatsession.cli._screen import note
from chatsession.errors import shown
from chatsession.maintenance import LOCK_TIMEOUT

_PATIENCE = 0.5


@contextmanager
def says_it_waits(key: str) -> Generator[None]:
    """Print a note if the block, which changes a session, has to wait for the lock."""
    message = f"waiting for the update that is running for {shown(key)}, for {LOCK_TIMEOUT:.0f} s at most"
    timer = asyncio.get_running_loop().call_later(_PATIENCE, note, message, "yellow")
    try:
        yield
    finally:
        timer.cancel()
