"""Delivery of updates to a bot's own web server."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import ClientError, ClientSession, ClientTimeout

from ._errors import ApiError
from ._parameters import read_answer
from ._queue import Update, UpdateQueue
from ._updates import JsonObject, lane

Perform: TypeAlias = Callable[[str, JsonObject], Awaitable[object]]

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"
ANSWER_WITHIN = ClientTimeout(total=60)
LONGEST_PAUSE = 1.0


@dataclass(slots=True)
class Webhook:
    """Where a bot wants its updates.

    Args:
        url: of the bot's web server; plain HTTP will do here.
        perform: does what the bot asks for in its answer to an update.
        secret_token: sent along in a header, if there is one.
        max_connections: how many updates may be on their way at once.
    """

    url: str
    perform: Perform
    secret_token: str = ""
    max_connections: int = 40
    last_error: str = ""
    last_error_date: int = 0


async def deliver(queue: UpdateQueue, webhook: Webhook) -> None:
    """Post updates to a webhook until cancelled.

    Updates of one chat go one after the other; each is repeated until the bot answers with a status of 2xx.
    """
    under_way: set[object] = set()

    async def post(update: Update) -> None:
        try:
            await _post_until_taken(http, webhook, update)
            queue.done(update.id)
        finally:
            under_way.discard(lane(update.payload))
            queue.wake()

    async with ClientSession(timeout=ANSWER_WITHIN) as http, asyncio.TaskGroup() as posts:
        while True:
            update = queue.first_outside(under_way)
            if update is None or len(under_way) >= webhook.max_connections:
                await queue.changed()
            else:
                under_way.add(lane(update.payload))
                posts.create_task(post(update))


async def _post_until_taken(http: ClientSession, webhook: Webhook, update: Update) -> None:
    headers = {SECRET_HEADER: webhook.secret_token} if webhook.secret_token else {}
    for attempt in itertools.count():
        try:
            async with http.post(webhook.url, json=update.json(), headers=headers) as response:
                if response.ok:
                    with suppress(ApiError):  # Telegram doesn't tell a bot what became of such a call
                        method, params = await read_answer(response)
                        if method:
                            await webhook.perform(method, params)
                    return
                webhook.last_error = f"Wrong response from the webhook: {response.status} {response.reason}"
        except (ClientError, TimeoutError) as error:
            webhook.last_error = str(error) or "Connection timed out"
        webhook.last_error_date = int(time.time())
        await asyncio.sleep(min(LONGEST_PAUSE, 0.02 * 2 ** min(attempt, 10)))
