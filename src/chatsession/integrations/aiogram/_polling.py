"""Polling for aiogram that confirms updates when they are done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from aiogram import Bot, Dispatcher, loggers
from aiogram.methods import TelegramMethod
from aiogram.types import Update

from chatsession.integrations.aiogram._methods import AiogramMethods
from chatsession.integrations.polling.delivery import PolledUpdate, inside_update, note_undone
from chatsession.integrations.polling.poller import run_all, start_each
from chatsession.integrations.polling.setup import (
    MOST_UNDER_WAY,
    make_poller,
    polled_once,
    stopped_by,
    stopped_by_signals,
)
from chatsession.integrations.polling.window import RawUpdate
from chatsession.manager import SessionManager

_NOT_TAKEN = frozenset(("handle_as_tasks", "backoff_config"))
"""What aiogram's own polling takes, and would go to handlers here."""


class _GetRawUpdates(TelegramMethod[list[RawUpdate]]):
    """`getUpdates` whose updates are parsed later, and only if they are new."""

    __returning__ = list[RawUpdate]
    __api_method__ = "getUpdates"

    offset: int | None = None
    limit: int | None = None
    timeout: int | None = None
    allowed_updates: list[str] | None = None


class _AiogramBot:
    """See `polling.poller.BotApi`."""

    def __init__(self, dispatcher: Dispatcher, bot: Bot, allowed_updates: list[str], data: dict[str, Any]) -> None:
        self.translate = AiogramMethods(bot).translate
        self._dispatcher = dispatcher
        self._bot = bot
        self._allowed_updates = allowed_updates
        self._data = data

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        method = _GetRawUpdates(
            offset=offset or None, limit=limit, timeout=timeout, allowed_updates=self._allowed_updates
        )
        # A long poll must not be taken for a request that hangs.
        patience = int(self._bot.session.timeout + timeout) if self._bot.session.timeout else None
        return await self._bot(method, request_timeout=patience)

    def to_json(self, update: RawUpdate) -> bytes:
        return msgspec.json.encode(update)

    def start(self, updates: Sequence[PolledUpdate]) -> list[asyncio.Task[None]]:
        return start_each(updates, self._handle)

    async def _handle(self, update: RawUpdate) -> None:
        bot, dispatcher = self._bot, self._dispatcher
        try:
            parsed = Update.model_validate(update, context={"bot": bot})
            response = await dispatcher.feed_update(bot, parsed, **self._data)
            if isinstance(response, TelegramMethod):
                await dispatcher.silent_call_request(bot=bot, result=cast("TelegramMethod[Any]", response))
        except Exception as error:
            note_undone(error)
            loggers.event.exception(
                "Cause exception while process update id=%d by bot id=%d\n%s: %s",  # as aiogram's own
                update["update_id"],
                bot.id,
                type(error).__name__,
                error,
            )


async def start_polling(
    dispatcher: Dispatcher,
    *bots: Bot,
    managers: Sequence[SessionManager[Any]],
    polling_timeout: int,
    allowed_updates: list[str],
    handle_signals: bool,
    close_bot_session: bool,
    tasks_concurrency_limit: int | None,
    max_deliveries: int,
    drain_timeout: float,
    data: dict[str, Any],
) -> None:
    """See `chatsession.integrations.aiogram.start_polling`."""
    if not bots:
        raise ValueError("start_polling needs a bot: await start_polling(dispatcher, bot)")
    if "bot" in data:
        raise ValueError("pass bots behind the dispatcher, not as bot=…: await start_polling(dispatcher, bot)")
    if refused := _NOT_TAKEN & data.keys():
        raise TypeError(f"start_polling of chatsession takes no {', '.join(sorted(refused))}")
    data = {"dispatcher": dispatcher, "bots": bots, **dispatcher.workflow_data, **data}
    data.pop("bot", None)
    pollers = [
        make_poller(
            bot.id,
            _AiogramBot(dispatcher, bot, allowed_updates, data),
            managers,
            timeout=polling_timeout,
            drain=drain_timeout,
            max_deliveries=max_deliveries,
            most=tasks_concurrency_limit or MOST_UNDER_WAY,
        )
        for bot in bots
    ]
    ended = asyncio.Event()

    async def stop_polling() -> None:
        for poller in pollers:
            poller.stop()
        if not inside_update():
            await ended.wait()

    with (
        polled_once(dispatcher),
        stopped_by(dispatcher, stop_polling=stop_polling),
        stopped_by_signals(pollers, handle_signals=handle_signals),
    ):
        await dispatcher.emit_startup(bot=bots[-1], **data)
        try:
            for bot in bots:
                user = await bot.me()
                loggers.dispatcher.info("Run polling for bot @%s id=%d - %r", user.username, bot.id, user.full_name)
            await run_all(pollers)
        finally:
            try:
                await dispatcher.emit_shutdown(bot=bots[-1], **data)
            finally:
                if close_bot_session:
                    await asyncio.gather(*(bot.session.close() for bot in bots))
                ended.set()
