"""Makes, starts and stops the polling of a bot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from chatsession.integrations.polling.deliveries import Deliveries
from chatsession.integrations.polling.poller import BotApi, Poller
from chatsession.manager import SessionManager

_log = logging.getLogger("chatsession")

MOST_UNDER_WAY = 100
"""As many updates as one `getUpdates` brings."""


def check_max_deliveries(most: int) -> None:
    """Raises `ValueError` if updates would be set aside that have not caused a crash."""
    if most < 2:
        raise ValueError("max_deliveries must be 2 or more: a process can die of other things than its update")


def make_poller(
    bot_id: int,
    api: BotApi,
    managers: Sequence[SessionManager[Any]],
    *,
    timeout: int,
    drain: float,
    max_deliveries: int,
    most: int = MOST_UNDER_WAY,
) -> Poller:
    """Make the poller of a bot.

    Args:
        bot_id: the id of the bot.
        api: the framework's bot.
        managers: of the bot's sessions, then of its states.
        timeout: seconds of a long poll.
        drain: seconds to wait for handlers at the end.
        max_deliveries: the number of crashes after which an update is set aside.
        most: how many updates may run at the same time.

    Raises:
        ValueError: `max_deliveries` is less than 2.
    """
    check_max_deliveries(max_deliveries)
    for manager in managers:
        if not manager.options.deduplicate:
            _log.warning(
                "sessions %r have no deduplicate: an update that a crash interrupts may change them twice; pass "
                "deduplicate=%d",
                manager.options.name,
                MOST_UNDER_WAY,
            )
    # Sessions must still remember all updates that are delivered again after a crash.
    remembered = [manager.options.deduplicate for manager in managers if manager.options.deduplicate]
    keeping = next((manager for manager in managers if manager.runtime.serializer.pipeline is not None), None)
    if keeping is None:
        _log.warning("no storage of this bot can count deliveries, so that max_deliveries has no effect")
    return Poller(
        f"bot {bot_id}",
        api,
        window_size=min([MOST_UNDER_WAY, most, *remembered]),
        timeout=timeout,
        drain=drain,
        deliveries=None if keeping is None else Deliveries(keeping, bot_id, max_deliveries),
    )


_polled: set[int] = set()
"""The `id` of each bot that is being polled for."""


@contextlib.contextmanager
def polled_once(bot: object) -> Generator[None]:
    """Refuse a second polling for the same bot during the block.

    Args:
        bot: the object that the framework starts and stops.

    Raises:
        RuntimeError: the bot is being polled for already.
    """
    if id(bot) in _polled:
        raise RuntimeError("this bot is being polled for already; a second polling would get its updates, too")
    _polled.add(id(bot))
    try:
        yield
    finally:
        _polled.discard(id(bot))


@contextlib.contextmanager
def stopped_by(bot: object, **stops: Callable[[], object]) -> Generator[None]:
    """Replace methods by which a framework stops its polling during the block.

    Args:
        bot: the object whose methods they are.
        **stops: the replacements, by the names of the methods.
    """
    vars(bot).update(stops)
    try:
        yield
    finally:
        for name in stops:
            delattr(bot, name)


@contextlib.contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop`, which must return at once, at SIGTERM and SIGINT. Outside of the main thread, nothing is done."""

    def received(number: int, frame: object) -> None:
        _log.info("received %s: polling stops", signal.Signals(number).name)
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, received) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopped_by_signals(pollers: list[Poller], *, handle_signals: bool) -> Generator[None]:
    """Stop pollers at SIGTERM and SIGINT, if the event loop can handle signals.

    Args:
        pollers: the pollers to stop.
        handle_signals: `False`: do nothing.
    """

    def stop(number: signal.Signals) -> None:
        _log.info("received %s: polling stops", number.name)
        for poller in pollers:
            poller.stop()

    loop, before = asyncio.get_running_loop(), dict[signal.Signals, Any]()
    for number in (signal.SIGTERM, signal.SIGINT) if handle_signals else ():
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.remove_signal_handler(number)  # one of the loop would be replaced, and cannot be put back
            handler = signal.getsignal(number)
            loop.add_signal_handler(number, stop, number)
            before[number] = handler
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:  # else it is not one of Python
                signal.signal(number, handler)  # such as that of asyncio.run, which the loop does not put back
