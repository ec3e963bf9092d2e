"""Polling for a synchronous TeleBot that confirms updates when they are done.

Three threads take part. The one that calls `start_polling` gives updates to the bot, which lets its handlers run in
its own threads, or in this one if it has none. The loop of `polling.poller` runs beside the sessions, in the library's
event loop. `getUpdates` blocks, so it has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, cast

import msgspec
from telebot import TeleBot, apihelper

from chatsession.integrations.polling.delivery import PolledUpdate, ThreadDelivery
from chatsession.integrations.polling.poller import Poller
from chatsession.integrations.polling.setup import make_poller, polled_once, stopped_by, stopping_at_signals
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._ids import batches
from chatsession.integrations.telebot._methods import translated
from chatsession.integrations.telebot._thread_dispatch import ThreadDispatch
from chatsession.sync.loop_thread import LoopThread

_log = logging.getLogger("chatsession")


class _RequestThread:
    """Makes one request after another, over one connection. Nobody waits for its end, which may be a long poll away."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="telebot-get-updates", daemon=True).start()

    async def call(self, request: Callable[[], Any]) -> Any:
        """Make a request."""
        answer = Future[Any]()
        self._requests.put((request, answer))
        return await asyncio.wrap_future(answer)

    def end(self) -> None:
        """Make no more requests after the one that is under way."""
        self._requests.put(None)

    def _run(self) -> None:
        for request, answer in iter(self._requests.get, None):
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(request())
            except BaseException as error:
                answer.set_exception(error)


class _TeleBotBot:
    """See `polling.poller.BotApi`. Its methods are called in the event loop, but for `give_updates`."""

    def __init__(self, bot: TeleBot, dispatch: ThreadDispatch, allowed_updates: Sequence[str] | None) -> None:
        self.translate = translated
        self._bot: Any = bot
        self._dispatch = dispatch
        self._allowed_updates = None if allowed_updates is None else list(allowed_updates)
        self._get_updates: Any = cast("Any", apihelper).get_updates  # not parsed, as some are not new
        self._request_thread: _RequestThread | None = None
        self._received: SimpleQueue[Sequence[PolledUpdate] | None] = SimpleQueue()
        self._ended: deque[PolledUpdate] = deque()
        """Their handlers have ended in threads, and the loop is about to hear of it, if `_ending`."""
        self._ending = False
        self._loop: asyncio.AbstractEventLoop

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        request = partial(
            self._get_updates,
            self._bot.token,
            offset=offset,
            limit=limit,
            allowed_updates=self._allowed_updates,
            long_polling_timeout=timeout or 1,  # telebot takes 0 for its default of 20
        )
        thread = self._request_thread = self._request_thread or _RequestThread()
        try:
            return await thread.call(request)
        except asyncio.CancelledError:
            self.end_requests()
            raise

    def to_json(self, update: RawUpdate) -> bytes:
        return msgspec.json.encode(update)

    def start(self, updates: Sequence[PolledUpdate]) -> Sequence[asyncio.Task[None]]:
        self._loop = asyncio.get_running_loop()
        self._received.put(updates)
        return ()

    def give_updates(self) -> None:
        """Give updates to the bot until `end_updates`."""
        for received in iter(self._received.get, None):
            # Without threads, the next one is handled when the one before has ended.
            for batch in batches(received) if self._bot.threaded else [[each] for each in received]:
                self._dispatch.deliver(
                    {
                        each.update_id: (each.update, ThreadDelivery(partial(self._ended_in_thread, each)))
                        for each in batch
                        if not each.abandoned
                    }
                )

    def _ended_in_thread(self, polled: PolledUpdate, delivery: ThreadDelivery) -> None:
        polled.error = delivery.error
        self._ended.append(polled)
        if not self._ending:
            self._ending = True
            with suppress(RuntimeError):  # the loop has ended, and with it the polling
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ending = False
        while self._ended:
            self._ended.popleft().end()

    def end_updates(self) -> None:
        """Let `give_updates` return."""
        self._received.put(None)

    def end_requests(self) -> None:
        """Let the thread of the requests end."""
        if self._request_thread is not None:
            self._request_thread.end()
            self._request_thread = None


class _Polling:
    """Runs a poller in the event loop, from another thread."""

    def __init__(self, poller: Poller, loop_thread: LoopThread, on_end: Callable[[], None]) -> None:
        self._poller = poller
        self._loop_thread = loop_thread
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chatsession-polling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fetch nothing more, let what runs end, and confirm what is done."""

        async def stop() -> None:
            self._poller.stop()

        self._loop_thread.spawn(stop)

    def cancel(self) -> None:
        """End at once; what runs stays unconfirmed."""

        async def cancel() -> None:
            if self._task is None:
                self._poller.stop()
            else:
                self._task.cancel()

        self._loop_thread.spawn(cancel)

    def join(self) -> None:
        """Wait for the end. Raises what the polling has failed with."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._loop_thread.call(self._poll)
        except BaseException as error:
            self._error = error
        finally:
            self._on_end()

    async def _poll(self) -> None:
        self._task = asyncio.create_task(self._poller.run())
        await self._task


def poll_in_threads(
    bot: TeleBot,
    dispatch: ThreadDispatch,
    *,
    timeout: int,
    allowed_updates: Sequence[str] | None,
    handle_signals: bool,
    max_deliveries: int,
    drain_timeout: float,
) -> None:
    """See `chatsession.integrations.telebot.start_polling`."""
    api = _TeleBotBot(bot, dispatch, allowed_updates)
    poller = make_poller(
        bot.bot_id or 0,
        api,
        dispatch.bindings,
        timeout=timeout,
        drain=drain_timeout,
        max_deliveries=max_deliveries,
    )
    with polled_once(bot), dispatch.started() as loop_thread, ExitStack() as stack:
        polling = _Polling(poller, loop_thread, api.end_updates)
        stack.callback(api.end_requests)

        def stop_bot() -> None:
            polling.stop()
            if bot.threaded:
                stack.callback(cast("Any", bot.worker_pool).close)

        stack.enter_context(stopped_by(bot, stop_polling=polling.stop, stop_bot=stop_bot))
        if handle_signals:
            stack.enter_context(stopping_at_signals(polling.stop))
        try:
            api.give_updates()
        except BaseException:  # an interrupt
            polling.cancel()
            with suppress(asyncio.CancelledError):
                polling.join()
            raise
        polling.join()
