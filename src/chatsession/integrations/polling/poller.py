"""The loop of one bot: fetch, handle, confirm."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from chatsession.actions import RetryLaterError
from chatsession.integrations.polling.deliveries import Deliveries
from chatsession.integrations.polling.delivery import PolledUpdate
from chatsession.integrations.polling.window import RawUpdate, Window

_log = logging.getLogger("chatsession")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between two requests while updates run: Telegram then answers at once, and repeats these updates."""
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.5, 15.0
"""Seconds to wait after a failed request."""
FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
"""Seconds after which an update that is not done is handled again."""


class BotApi(Protocol):
    """What the loop needs of a framework."""

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        """Call `getUpdates`. An offset of 0 means none."""
        ...

    def start(self, updates: Sequence[PolledUpdate]) -> Iterable[asyncio.Task[None]]:
        """Start the handlers. Each update ends when its handlers and sessions are done. The tasks may be cancelled."""
        ...

    def to_json(self, update: RawUpdate) -> bytes:
        """The JSON of an update, as Telegram sent it."""
        ...

    def translate(self, error: Exception, /) -> Exception:
        """See `Methods.translate`."""
        ...


class Poller:
    """Polls for one bot.

    Args:
        name: the bot's name in messages.
        api: the framework's bot.
        window_size: how many updates may run at the same time, at most 100.
        timeout: seconds of a long poll.
        drain: seconds to wait for handlers at the end.
        deliveries: counts crashes; `None`: they are not counted.
    """

    def __init__(
        self,
        name: str,
        api: BotApi,
        *,
        window_size: int,
        timeout: int,
        drain: float,
        deliveries: Deliveries | None,
    ) -> None:
        self._name = name
        self._api = api
        self._timeout = timeout
        self._drain = drain
        self._deliveries = deliveries
        self._window = Window(window_size)
        self._under_way: set[PolledUpdate] = set()
        """Updates that run, or wait to be handled again."""
        self._retrying: dict[PolledUpdate, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        """Set while no update is under way."""
        self._idle.set()
        self._stopping = asyncio.Event()
        self._pause = 0.0

    def stop(self) -> None:
        """Fetch no more updates. `run` returns when those that run are done and confirmed."""
        self._stopping.set()

    async def run(self) -> None:
        """Poll until `stop` is called. If this is cancelled, so are the updates that run, and they stay unconfirmed."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        fetching = asyncio.ensure_future(self._fetch_and_start())
        try:
            await asyncio.wait([stopping, fetching], return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()
            await _cancel(fetching)
            await self._finish()
        finally:
            self.stop()  # no update is handled again from here on
            self._end_retries()
            for polled in self._under_way:
                polled.abandoned = True
            await _cancel(stopping, fetching, *self._tasks)

    async def _fetch_and_start(self) -> None:
        suspecting = self._deliveries is not None and await self._deliveries.begin()
        while True:
            await self._until_worth_asking()
            batch = await self._fetch(0 if self._window.running or suspecting else self._timeout)
            new = self._window.take(batch)
            self._pause = SHORTEST_PAUSE if new else min(self._pause * 2, LONGEST_PAUSE)
            if suspecting and self._deliveries is not None:
                suspecting = False
                await self._start_carefully(self._deliveries, new)
            elif new:
                self._start(new)

    async def _until_worth_asking(self) -> None:
        """Wait while Telegram would only repeat at once what it has delivered before.

        That is until all updates are done, or, if there is room for more, until none was done for a while.
        """
        loop = asyncio.get_running_loop()
        latest = loop.time() + LONGEST_PAUSE
        while self._window.running:
            running = len(self._window.running)
            if await _is_set_within(self._idle, self._pause):
                return
            if self._window.free > 0 and (len(self._window.running) == running or loop.time() > latest):
                return

    async def _fetch(self, timeout: int) -> list[RawUpdate]:
        back_off = FIRST_BACK_OFF
        while True:
            offset = self._window.offset
            try:
                batch = await self._api.fetch(offset, self._window.size, timeout)
            except Exception as error:
                told = self._api.translate(error)  # other errors may quote updates
                wait = told.seconds if isinstance(told, RetryLaterError) else back_off * random.uniform(0.8, 1.2)
                _log.warning(
                    "%s: getUpdates failed, next try in %.1f s: %s",
                    self._name,
                    wait,
                    type(error).__name__ if told is error else told,
                )
                await asyncio.sleep(wait)
                back_off = min(back_off * 2, LONGEST_BACK_OFF)
            else:
                self._window.confirmed(offset)
                return batch

    def _start(self, updates: Iterable[RawUpdate], retry: float = 0.0) -> None:
        polled = [PolledUpdate(update, self._ended, max(retry, FIRST_RETRY)) for update in updates]
        self._under_way.update(polled)
        self._idle.clear()
        for task in self._api.start(polled):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _start_carefully(self, deliveries: Deliveries, updates: list[RawUpdate]) -> None:
        """Start the updates that a crashed process has left; those that may have crashed it one at a time."""
        await deliveries.count(updates)
        for update in updates:
            if not deliveries.is_suspect(update):
                self._start([update])
                continue
            await self._idle.wait()
            if await deliveries.set_aside(update, self._api.to_json):
                self._window.done(update["update_id"])
            else:
                await deliveries.handle_alone(update)
                self._start([update])
                await self._idle.wait()
        await deliveries.handle_together()

    def _ended(self, polled: PolledUpdate) -> None:
        """An update was handled. It is done unless it must be delivered again."""
        if polled.error is None:
            self._window.done(polled.update_id)
        elif not self._stopping.is_set():
            self._start_again_later(polled)
            return
        self._leave(polled)

    def _start_again_later(self, polled: PolledUpdate) -> None:
        _log.warning(
            "%s: update %d is not done, and is handled again in %.1f s: %s",
            self._name,
            polled.update_id,
            polled.retry,
            polled.error,
        )
        loop = asyncio.get_running_loop()
        self._retrying[polled] = loop.call_later(polled.retry, self._start_again, polled)

    def _start_again(self, polled: PolledUpdate) -> None:
        del self._retrying[polled]
        self._under_way.discard(polled)
        self._start([polled.update], min(polled.retry * 2, LONGEST_RETRY))

    def _end_retries(self) -> None:
        """Leave the updates that wait to be handled again to the next process. Telegram delivers them to it."""
        while self._retrying:
            polled, timer = self._retrying.popitem()
            timer.cancel()
            self._leave(polled)

    def _leave(self, polled: PolledUpdate) -> None:
        self._under_way.discard(polled)
        if not self._under_way:
            self._idle.set()

    async def _finish(self) -> None:
        """Wait for the updates that run, and confirm what is done."""
        self._end_retries()
        if self._under_way:
            await _is_set_within(self._idle, self._drain)
        if self._window.running:
            left = ", ".join(map(str, self._window.running))
            _log.warning("%s: stopped before these updates were done; they are delivered again: %s", self._name, left)
        if self._window.offset:
            try:
                await self._api.fetch(self._window.offset, 1, 0)
            except Exception as error:
                _log.warning(
                    "%s: the last updates could not be confirmed, and are delivered again: %s",
                    self._name,
                    type(error).__name__,
                )
        if self._deliveries is not None:
            await self._deliveries.end()


def start_each(
    updates: Sequence[PolledUpdate], handle: Callable[[RawUpdate], Awaitable[object]]
) -> list[asyncio.Task[None]]:
    """`BotApi.start` of a framework that takes one update at a time."""
    return [asyncio.create_task(polled.handle(partial(handle, polled.update))) for polled in updates]


async def run_all(pollers: list[Poller]) -> None:
    """Poll for all bots until all are stopped; if one fails, the others stop."""
    tasks = [asyncio.create_task(poller.run()) for poller in pollers]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for poller in pollers:
            poller.stop()
        await asyncio.gather(*tasks)
    finally:
        await _cancel(*tasks)


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
