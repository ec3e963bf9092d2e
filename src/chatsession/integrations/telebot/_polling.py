"""Polling for an AsyncTeleBot that confirms updates when they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from telebot import asyncio_helper
from telebot.async_telebot import AsyncTeleBot

from chatsession.integrations.polling.delivery import PolledUpdate
from chatsession.integrations.polling.poller import run_all
from chatsession.integrations.polling.setup import make_poller, polled_once, stopped_by_signals
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._dispatch import Dispatch
from chatsession.integrations.telebot._ids import batches
from chatsession.integrations.telebot._methods import translated

_PATIENCE = 15
"""Seconds that a long poll may take beyond its time-out."""


class _TelebotBot:
    """See `polling.poller.BotApi`."""

    def __init__(self, bot: AsyncTeleBot, dispatch: Dispatch, allowed_updates: Sequence[str] | None) -> None:
        self.translate = translated
        self._bot: Any = bot
        self._dispatch = dispatch
        self._allowed_updates = None if allowed_updates is None else list(allowed_updates)
        self._get_updates: Any = cast("Any", asyncio_helper).get_updates  # not parsed, as some are not new

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        return await self._get_updates(
            self._bot.token,
            offset=offset,
            limit=limit,
            timeout=timeout,
            allowed_updates=self._allowed_updates,
            request_timeout=timeout + _PATIENCE,
        )

    def to_json(self, update: RawUpdate) -> bytes:
        return msgspec.json.encode(update)

    def start(self, updates: Sequence[PolledUpdate]) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._dispatch.deliver(batch)) for batch in batches(updates)]


async def poll(
    bot: AsyncTeleBot,
    dispatch: Dispatch,
    *,
    timeout: int,
    allowed_updates: Sequence[str] | None,
    handle_signals: bool,
    max_deliveries: int,
    drain_timeout: float,
) -> None:
    """See `chatsession.integrations.telebot.start_polling`."""
    poller = make_poller(
        bot.bot_id or 0,
        _TelebotBot(bot, dispatch, allowed_updates),
        dispatch.bindings,
        timeout=timeout,
        drain=drain_timeout,
        max_deliveries=max_deliveries,
    )
    with polled_once(bot), stopped_by_signals([poller], handle_signals=handle_signals):
        try:
            await dispatch.start()
            known: Any = bot
            known._user = await bot.get_me()  # as its own polling does, so that handlers have bot.user
            await run_all([poller])
        finally:
            await bot.close_session()
