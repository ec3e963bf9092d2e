"""Wakes waiters in all processes, by a message to the inbox of their connection."""

from __future__ import annotations

from contextlib import suppress

import nats.errors
from nats.aio.client import Client

from chatsession.storages._shared.waiters import wake_token
from chatsession.storages.nats._records import QueuedWaiter

LONGEST_WAIT = 1.0
"""Seconds after which a waiter tries again without being woken. This also keeps its place in the queue."""


async def wake(client: Client, queued: QueuedWaiter) -> None:
    """Wake a waiter in any process. If that fails, it tries again by itself a little later."""
    with suppress(nats.errors.Error):
        await client.publish(f"{queued.inbox}.{wake_token(queued.waiter)}")
