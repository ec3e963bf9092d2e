"""Polling for an AsyncTeleBot that confirms updates when they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from telebot import asyncio_helper
from telebot.async_telebot import AsyncTeleBot

from chatsession.integrations.polling.delivery import PolledUpdate
from chatsession.integrations.polling.poller import Poller, run_all
from chatsession.integrations.polling.setup import polled_once, stopped_by_signals
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._dispatch import Dispatch
from chatsession.integrations.telebot._ids import batches
from chatsession.integrations.telebot._methods import translated

_REQUEST_MARGIN = 15
"""Seconds that a request may take beyond the timeout of its long poll."""


class AsyncApi:
    """See `polling.poller.BotApi`."""

    def __init__(self, bot: AsyncTeleBot, dispatch: Dispatch, allowed_updates: list[str] | None) -> None:
        self.translate = translated
        self._token = bot.token
        self._dispatch = dispatch
        self._allowed_updates = allowed_updates
        self._get_updates: Any = cast("Any", asyncio_helper).get_updates  # without telebot's parsing

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        return await self._get_updates(
            self._token,
            offset=offset,
            limit=limit,
            timeout=timeout,
            allowed_updates=self._allowed_updates,
            request_timeout=timeout + _REQUEST_MARGIN,
        )

    def to_json(self, update: RawUpdate) -> bytes:
        return msgspec.json.encode(update)

    def start(self, updates: Sequence[PolledUpdate]) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._dispatch.deliver(batch)) for batch in batches(updates)]


async def poll(bot: AsyncTeleBot, dispatch: Dispatch, poller: Poller, *, handle_signals: bool) -> None:
    """Run the poller until it is stopped, then close the bot."""
    with polled_once(bot), stopped_by_signals([poller], handle_signals=handle_signals):
        try:
            await dispatch.start()
            known: Any = bot
            known._user = await bot.get_me()  # as its own polling does, so that handlers have bot.user
            await run_all([poller])
        finally:
            await bot.close_session()
