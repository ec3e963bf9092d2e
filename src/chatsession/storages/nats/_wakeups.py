"""Wakes waiters of all processes, by a message to the inbox of the connection that they wait on."""

from __future__ import annotations

from contextlib import suppress

import nats.errors
from nats.aio.client import Client

from chatsession.storages._shared.waiters import wake_token
from chatsession.storages.nats._records import QueuedWaiter

LONGEST_WAIT = 1.0
"""Seconds after which a waiter tries again although nobody woke it; also how it shows that it is still there."""


async def wake(client: Client, queued: QueuedWaiter) -> None:
    """Wake a waiter, in whatever process; if that fails, it wakes up by itself a little later."""
    with suppress(nats.errors.Error):
        await client.publish(f"{queued.inbox}.{wake_token(queued.waiter)}")
