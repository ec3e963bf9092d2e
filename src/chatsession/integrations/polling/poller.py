"""The loop of one bot: fetch, handle, confirm."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Any, Protocol

from chatsession.actions import RetryLaterError
from chatsession.integrations.polling.deliveries import Deliveries
from chatsession.integrations.polling.delivery import Delivery, delivering
from chatsession.integrations.polling.window import RawUpdate, Window

_log = logging.getLogger("chatsession")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between two requests while updates are under way: Telegram answers at once then, with these."""
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.5, 15.0
"""Seconds to wait after a request that failed."""
FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
"""Seconds after which an update is handled again that is not done."""


class BotApi(Protocol):
    """What the loop needs of a framework."""

    async def fetch(self, offset: int, limit: int, timeout: int) -> list[RawUpdate]:
        """Call `getUpdates`; an offset of 0 is left out."""
        ...

    async def handle(self, update: RawUpdate) -> None:
        """Let the handlers run, and return when they and their sessions are done."""
        ...

    def to_json(self, update: RawUpdate) -> bytes:
        """An update as Telegram sent it."""
        ...

    def translate(self, error: Exception, /) -> Exception:
        """See `Methods.translate`."""
        ...


class Poller:
    """Polls for one bot.

    Args:
        name: of the bot, for messages.
        api: of the bot.
        window_size: how many updates may be under way, at most 100.
        timeout: seconds of a long poll.
        drain: seconds to let handlers finish at the end.
        deliveries: counts how often an update has taken the process down; `None`: nobody does.
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
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        """An update is done, or the end has come."""
        self._stopping = asyncio.Event()
        self._pause = 0.0

    def stop(self) -> None:
        """Fetch nothing more; `run` returns when what runs is done and confirmed."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Poll until `stop` is called. When it is cancelled, what runs is cancelled, and stays unconfirmed."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        fetching = asyncio.ensure_future(self._fetch_and_start())
        try:
            await asyncio.wait([stopping, fetching], return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()
            await _cancel(fetching)
            await self._finish()
        finally:
            await _cancel(stopping, fetching, *self._tasks)

    async def _fetch_and_start(self) -> None:
        suspecting = self._deliveries is not None and await self._deliveries.begin()
        while True:
            await self._until_worth_asking()
            batch = await self._fetch(0 if self._window.running or suspecting else self._timeout)
            new = self._window.take(batch)
            self._pause = 0.0 if new else min(max(self._pause * 2, SHORTEST_PAUSE), LONGEST_PAUSE)
            if suspecting and self._deliveries is not None:
                suspecting = False
                await self._start_carefully(self._deliveries, new)
            else:
                for update in new:
                    self._start(update)

    async def _until_worth_asking(self) -> None:
        """Wait while Telegram would answer at once with nothing but what is under way."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._window.running:
            left = self._pause_left(loop.time() - began)
            if left is not None and left <= 0:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _pause_left(self, waited: float) -> float | None:
        """Seconds until the next request is worth it; `None`: it would bring nothing new before something is done."""
        free = self._window.free
        if free <= 0:
            return None
        much = free >= self._window.size // 2
        return (self._pause if much else max(self._pause, SHORTEST_PAUSE)) - waited

    async def _fetch(self, timeout: int) -> list[RawUpdate]:
        back_off = FIRST_BACK_OFF
        while True:
            offset = self._window.offset
            try:
                batch = await self._api.fetch(offset, self._window.size, timeout)
            except Exception as error:
                told = self._api.translate(error)  # what is not translated may quote updates in its text
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

    def _start(self, update: RawUpdate) -> asyncio.Task[None]:
        task = asyncio.create_task(self._handle(update))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _start_carefully(self, deliveries: Deliveries, updates: list[RawUpdate]) -> None:
        """Start what a process that died has left; alone, what may have taken it down."""
        await deliveries.count(updates)
        for update in updates:
            if not deliveries.is_suspect(update):
                self._start(update)
                continue
            while self._tasks:
                await asyncio.wait(self._tasks)
            if await deliveries.set_aside(update, self._api.to_json):
                self._done(update["update_id"])
            else:
                await deliveries.handle_alone(update)
                await asyncio.wait([self._start(update)])
        await deliveries.handle_together()

    async def _handle(self, update: RawUpdate) -> None:
        update_id: int = update["update_id"]
        retry = FIRST_RETRY
        while True:
            delivery = Delivery()
            delivering.set(delivery)
            try:
                await self._api.handle(update)
                await delivery.join()
            except Exception:
                _log.exception("%s: update %d failed", self._name, update_id)
            if delivery.error is None:
                break
            _log.warning(
                "%s: update %d is not done, and is handled again in %.1f s: %s",
                self._name,
                update_id,
                retry,
                delivery.error,
            )
            if await _is_set_within(self._stopping, retry):
                return  # Telegram delivers it again to the next process
            retry = min(retry * 2, LONGEST_RETRY)
        self._done(update_id)

    def _done(self, update_id: int) -> None:
        self._window.done(update_id)
        self._changed.set()

    async def _finish(self) -> None:
        """Let what runs end, and confirm what is done."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain)
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
