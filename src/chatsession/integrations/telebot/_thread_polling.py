"""Polling for a synchronous TeleBot that confirms updates when they are done.

Three threads take part. The one that calls `start_polling` gives updates to the bot, which lets its handlers run in
threads of its own, or in this one if it has none. The poller runs in the library's event loop, beside the sessions.
`getUpdates` blocks, so it has a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, cast

import msgspec
from telebot import TeleBot, apihelper

from chatsession.integrations.polling.delivery import PolledUpdate, ThreadDelivery
from chatsession.integrations.polling.poller import Poller
from chatsession.integrations.polling.setup import polled_once, stopped_by, stopping_at_signals
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._ids import batches
from chatsession.integrations.telebot._methods import translated
from chatsession.integrations.telebot._thread_dispatch import ThreadDispatch

_SIGNAL_CHECK = 0.5
"""Seconds after which a wait of the main thread lets Python run the handlers of signals."""


class _RequestThread:
    """Makes requests over one connection. Nobody waits for the end of the thread, which may be a long poll away."""

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


class ThreadApi:
    """See `polling.poller.BotApi`. The poller calls its methods in the event loop."""

    def __init__(self, bot: TeleBot, dispatch: ThreadDispatch, allowed_updates: list[str] | None) -> None:
        self.translate = translated
        self._bot = bot
        self._dispatch = dispatch
        self._allowed_updates = allowed_updates
        self._get_updates: Any = cast("Any", apihelper).get_updates  # without telebot's parsing
        self._request_thread: _RequestThread | None = None
        self._received: SimpleQueue[tuple[asyncio.AbstractEventLoop, Sequence[PolledUpdate]] | None] = SimpleQueue()

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
            self._end_requests()
            raise

    def to_json(self, update: RawUpdate) -> bytes:
        return msgspec.json.encode(update)

    def start(self, updates: Sequence[PolledUpdate]) -> Sequence[asyncio.Task[None]]:
        self._received.put((asyncio.get_running_loop(), updates))
        return ()

    def end(self) -> None:
        """The poller has ended: let `give_updates` return."""
        self._received.put(None)
        self._end_requests()

    def _end_requests(self) -> None:
        if self._request_thread is not None:
            self._request_thread.end()
            self._request_thread = None

    def drop_updates(self) -> None:
        """Wait for `end`."""
        for _ in iter(self._next, None):
            pass

    def give_updates(self) -> None:
        """Give updates to the bot, in the thread that calls this, until `end`."""
        for loop, received in iter(self._next, None):
            # Without threads, the next one is handled when the one before has ended.
            for batch in batches(received) if self._bot.threaded else [[polled] for polled in received]:
                wanted = [polled for polled in batch if not polled.abandoned]
                self._dispatch.deliver(
                    [polled.update for polled in wanted],
                    {polled.update_id: ThreadDelivery(partial(_end_in_loop, loop, polled)) for polled in wanted},
                )

    def _next(self) -> tuple[asyncio.AbstractEventLoop, Sequence[PolledUpdate]] | None:
        # A signal does not end the wait if it comes just before, or if another thread gets it.
        while True:
            with suppress(Empty):
                return self._received.get(timeout=_SIGNAL_CHECK)


def _end_in_loop(loop: asyncio.AbstractEventLoop, polled: PolledUpdate, delivery: ThreadDelivery) -> None:
    polled.error = delivery.error
    with suppress(RuntimeError):  # the loop has ended, and with it the polling
        loop.call_soon_threadsafe(polled.end)


def poll_in_threads(
    bot: TeleBot, dispatch: ThreadDispatch, api: ThreadApi, poller: Poller, *, handle_signals: bool
) -> None:
    """Run the poller in the event loop until it is stopped, and let the bot handle its updates."""
    dispatch.check_threads()
    with polled_once(bot), ExitStack() as until_closed, dispatch.started() as loop_thread:
        polling: list[asyncio.Task[None]] = []

        def start() -> None:
            polling.append(asyncio.create_task(poller.run()))
            polling[0].add_done_callback(lambda task: api.end())

        stop = partial(loop_thread.call_soon, poller.stop)
        if handle_signals:
            until_closed.enter_context(stopping_at_signals(stop))  # a second signal must not interrupt the closing
        with stopped_by(bot, stop_polling=stop):
            loop_thread.call_soon(start)
            try:
                api.give_updates()
            except BaseException:  # an interrupt
                loop_thread.call_soon(lambda: polling[0].cancel())
                api.drop_updates()
                raise
            polling[0].result()
