"""The polling of one bot, as its sessions need it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Generator

from chatsession.integrations.polling.deliveries import Deliveries
from chatsession.integrations.polling.poller import BotApi, Poller
from chatsession.integrations.update_scope import SessionBindings

_log = logging.getLogger("chatsession")

MOST_UNDER_WAY = 100
"""As many as one `getUpdates` brings."""


def check_max_deliveries(most: int) -> None:
    """Raises `ValueError` if that few deliveries would set updates aside that are not to blame."""
    if most < 2:
        raise ValueError("max_deliveries must be 2 or more: a process can die of other things than its update")


def make_poller(
    bot_id: int,
    api: BotApi,
    bindings: SessionBindings,
    *,
    timeout: int,
    drain: float,
    max_deliveries: int,
    most: int = MOST_UNDER_WAY,
) -> Poller:
    """The loop for one bot.

    Args:
        bot_id: of the bot.
        api: of the bot.
        bindings: its sessions.
        timeout: seconds of a long poll.
        drain: seconds to let handlers finish at the end.
        max_deliveries: an update that has taken the process down so often is set aside.
        most: how many updates may be under way.

    Raises:
        ValueError: `max_deliveries` is less than 2.
    """
    check_max_deliveries(max_deliveries)
    managers = [binding.sessions for binding in bindings.all]
    for manager in managers:
        if not manager.options.deduplicate:
            _log.warning(
                "sessions %r have no deduplicate: an update that a crash interrupts may change them twice; pass "
                "deduplicate=%d",
                manager.options.name,
                MOST_UNDER_WAY,
            )
    # What is delivered again after a crash must still be remembered.
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
"""What is polled for, by `id`."""


@contextlib.contextmanager
def polled_once(bot: object) -> Generator[None]:
    """Refuse to poll twice at a time.

    Args:
        bot: what the framework starts and stops.

    Raises:
        RuntimeError: it is polled for already.
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
    """Let a framework's own ways to stop its polling stop this one.

    Args:
        bot: what the framework stops.
        **stops: by the names of its methods, what they do meanwhile.
    """
    vars(bot).update(stops)
    try:
        yield
    finally:
        for name in stops:
            delattr(bot, name)


@contextlib.contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` at SIGTERM and SIGINT; does nothing outside of the main thread.

    Args:
        stop: returns at once.
    """

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
    """Stop polling at SIGTERM and SIGINT, where the event loop can handle signals.

    Args:
        pollers: to be stopped.
        handle_signals: whether to do so.
    """

    def stop(number: signal.Signals) -> None:
        _log.info("received %s: polling stops", number.name)
        for poller in pollers:
            poller.stop()

    loop, handled = asyncio.get_running_loop(), list[signal.Signals]()
    for number in (signal.SIGTERM, signal.SIGINT) if handle_signals else ():
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop, number)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
