"""An updater for python-telegram-bot that confirms updates when they are done, by polling and behind its webhook."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from telegram import Update
from telegram.error import TelegramError
from telegram.ext import Application, Updater

from chatsession.integrations.polling.delivery import PolledUpdate, inside_update, leave_undone
from chatsession.integrations.polling.poller import Poller, start_each
from chatsession.integrations.polling.setup import make_poller
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telegram_ext._methods import translated
from chatsession.integrations.webhooks import handled

_log = logging.getLogger("chatsession")

_NOT_RUNNING_YET = 0.01
"""Seconds between two looks whether the application has started, which has no event for it."""


class ConfirmingUpdater(Updater):
    """Takes the place of an application's updater.

    Args:
        application: whose updates it fetches, and handles past the update queue.
        max_deliveries: see `setup_polling`.
        drain_timeout: see `setup_polling`.
    """

    def __init__(
        self,
        application: Application[Any, Any, Any, Any, Any, Any],
        max_deliveries: int,
        drain_timeout: float,
    ) -> None:
        super().__init__(application.bot, _Handling(application))
        self._application = application
        self._max_deliveries = max_deliveries
        self._drain_timeout = drain_timeout
        self._poller: Poller | None = None
        self._polling: asyncio.Task[None] | None = None

    async def start_polling(
        self,
        poll_interval: float = 0.0,
        timeout: float | datetime.timedelta = 10,
        bootstrap_retries: int = 0,
        allowed_updates: Sequence[str] | None = None,
        drop_pending_updates: bool | None = None,
        error_callback: Callable[[TelegramError], None] | None = None,
    ) -> asyncio.Queue[object]:
        """As `telegram.ext.Updater.start_polling`; `poll_interval` has no effect."""
        if self.running or not (self._polling is None or self._polling.done()):
            raise RuntimeError("This Updater is already running!")
        await self._delete_webhook(bootstrap_retries, drop_pending_updates)
        seconds = timeout.total_seconds() if isinstance(timeout, datetime.timedelta) else timeout
        bot = _PtbBot(self, self._application, allowed_updates, error_callback)
        self._poller = make_poller(
            self.bot.id,
            bot,
            cast("Any", self._application).served.managers,
            timeout=int(seconds),
            drain=self._drain_timeout,
            max_deliveries=self._max_deliveries,
        )
        self._running = True
        self._polling = asyncio.create_task(self._poller.run())
        self._polling.add_done_callback(_log_failure)
        return self.update_queue

    async def stop(self) -> None:
        """Fetch nothing more, let what runs end, and confirm what is done.

        In a handler, it does not wait for that; the shutdown of the application does.
        """
        if self._poller is None or not self.running:
            await super().stop()
            return
        self._running = False
        self._poller.stop()
        if not inside_update():
            await self.ended()

    async def ended(self) -> None:
        """Wait until polling that was stopped has ended."""
        polling, self._polling, self._poller = self._polling, None, None
        if polling is not None:
            await polling

    async def _delete_webhook(self, retries: int, drop: bool | None) -> None:
        while True:
            try:
                await self.bot.delete_webhook(drop_pending_updates=drop)
                return
            except TelegramError:
                if retries == 0:
                    raise
                retries -= 1
                await asyncio.sleep(1)


@dataclass
class _PtbBot:
    """See `polling.poller.BotApi`."""

    updater: Updater
    application: Application[Any, Any, Any, Any, Any, Any]
    allowed_updates: Sequence[str] | None
    error_callback: Callable[[TelegramError], None] | None

    translate = staticmethod(translated)

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        try:
            updates = await self.application.bot.get_updates(
                offset=offset or None, limit=limit, timeout=timeout, allowed_updates=self.allowed_updates
            )
        except TelegramError as error:
            if self.error_callback is not None:
                self.error_callback(error)
            raise
        return [{"update_id": update.update_id, "update": update} for update in updates]

    def to_json(self, update: RawUpdate) -> bytes:
        parsed: Update = update["update"]
        return parsed.to_json().encode()

    def start(self, updates: Sequence[PolledUpdate]) -> list[asyncio.Task[None]]:
        return start_each(updates, self._handle)

    async def _handle(self, update: RawUpdate) -> None:
        while not self.application.running:
            if not self.updater.running:
                leave_undone(RuntimeError("the application was stopped before"))
                return
            await asyncio.sleep(_NOT_RUNNING_YET)
        await _process(self.application, update["update"])


class _Handling(asyncio.Queue[object]):
    """Stands for the update queue in the server of `run_webhook`: what is put there is handled at once.

    The server answers when `put` returns, with 500 if it raises.
    """

    def __init__(self, application: Application[Any, Any, Any, Any, Any, Any]) -> None:
        super().__init__()
        self._application = application

    async def put(self, item: object) -> None:
        while not self._application.running:  # noqa: ASYNC110 - the application has no event for it
            await asyncio.sleep(_NOT_RUNNING_YET)
        await handled(_process(self._application, item))


async def _process(application: Application[Any, Any, Any, Any, Any, Any], update: object) -> None:
    await application.update_processor.process_update(update, application.process_update(update))


def _log_failure(polling: asyncio.Task[None]) -> None:
    if not polling.cancelled() and (error := polling.exception()) is not None:
        _log.critical("polling has ended, and no more updates come: %s", type(error).__name__, exc_info=error)
