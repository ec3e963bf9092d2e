"""Sessions in the threads of a synchronous `TeleBot`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

from telebot import TeleBot, types

from chatsession.errors import SessionError
from chatsession.integrations.polling.delivery import ThreadDelivery, delivering, note_undone
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._handlers import NAMES_OF_TELEBOT, PLACE, AskedSessions, check_hooks
from chatsession.integrations.telebot._ids import context_of, payloads
from chatsession.integrations.telebot._methods import methods_of_bot
from chatsession.integrations.telebot._thread_update import ThreadUpdate
from chatsession.integrations.telebot._turns import InFlight, Turn, Turns
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope
from chatsession.sync import SessionManager
from chatsession.sync.loop_thread import LoopThread

_log = logging.getLogger("chatsession")

_HOOKS = {
    "_exec_task": ("task",),
    "_run_middlewares_and_handler": ("message", "handlers", "middlewares", "update_type"),
    "_handle_exception": ("exception",),
    "process_new_updates": ("updates",),
    "polling": (),
}
"""What this stands before, and the parameters on which it relies."""
_DRAIN_TIMEOUT = 30.0


def thread_dispatch_of(bot: TeleBot) -> ThreadDispatch:
    """What stands before the places of this bot."""
    return cast("ThreadDispatch | None", vars(bot).get(PLACE)) or ThreadDispatch(bot)


class ThreadDispatch:
    """Stands before the places of one bot where updates come in, are given to threads, and are handled."""

    def __init__(self, bot: TeleBot) -> None:
        check_hooks(TeleBot, _HOOKS)
        self.bot: Any = bot
        self.bindings: SessionBindings = SessionBindings()
        self.asked: AskedSessions = AskedSessions(self.bindings)
        self._managers: list[SessionManager[Any]] = []
        self._methods = methods_of_bot(bot)
        self._turns = Turns()
        self._in_flight = InFlight()
        self._batch = _Batch()
        self._process: Callable[[Sequence[types.Update]], None] = self.bot.process_new_updates
        self._execute: Callable[..., None] = self.bot._exec_task
        self._poll: Callable[..., None] = self.bot.polling
        self.handle: Callable[..., None] = self.bot._run_middlewares_and_handler
        """Runs the middlewares and handlers of an update."""
        setattr(self.bot, PLACE, self)
        self.bot.process_new_updates = self.process
        self.bot._exec_task = self.execute
        self.bot.polling = self.poll

    def add(self, sessions: SessionManager[Any], *, lazy: bool, per_bot: bool) -> None:
        """Set up a manager."""
        self.bindings.add(SessionBinding(sessions.asynchronous, lazy=lazy, per_bot=per_bot), NAMES_OF_TELEBOT)
        self._managers.append(sessions)
        self.asked.clear()

    def deliver(self, batch: Mapping[int, tuple[RawUpdate, ThreadDelivery]]) -> None:
        """Give a batch to the bot's threads, and end each of its updates when it is handled."""
        updates: list[types.Update] = []
        for update_id, (update, _) in batch.items():
            try:
                updates.append(cast("Any", types.Update).de_json(update))
            except Exception:
                _log.exception("update %d cannot be read", update_id)
        self._batch.deliveries = {update_id: delivery for update_id, (_, delivery) in batch.items()}
        try:
            self.bot.process_new_updates(updates)
        except Exception:
            _log.exception("updates failed")
        finally:
            self._batch.deliveries = {}
        for _, delivery in batch.values():
            delivery.end()

    def process(self, updates: Sequence[types.Update]) -> None:
        """Give a batch to the bot's threads; here only are the ids of its updates known."""
        outer, deliveries, waiting = self._batch.coming, self._batch.deliveries, _thread_delivery()
        self._batch.coming = {
            id(payload): _Coming(update.update_id, deliveries.get(update.update_id, waiting))
            for update in updates
            for payload in payloads(update)
        }
        try:
            self._process(updates)
        finally:
            self._batch.coming = outer

    def execute(self, task: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Give one task of an update to a thread, or do it here if the bot has none."""
        if not args or not isinstance(args[0], types.JsonDeserializable):  # a listener, which gets a whole batch
            self._execute(task, *args, **kwargs)
            return
        coming = self._batch.coming.get(id(args[0])) or _Coming(None, None)
        context = context_of(self.bot, args[0], cast("int | None", coming.next_id()), self._methods)
        turn = self._turns.take(context.chat_id) if self.bot.threaded else Turn()
        update = ThreadUpdate(self, UpdateScope(self.bindings, context), turn)
        self._in_flight.add(1)
        if coming.delivery is None:
            self._execute(partial(self._do, update, task), *args, **kwargs)
        else:
            coming.delivery.begin()
            self._execute(partial(self._do_delivered, coming.delivery, update, task), *args, **kwargs)

    def _do(self, update: ThreadUpdate, task: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        try:
            update.do(task, *args, **kwargs)
        except SessionError as error:  # an update that must be given up is no reason to stop polling
            note_undone(error)
            if not self.bot._handle_exception(error):
                _log.error("an update was not handled, or what it did to its session is lost: %s", error)
        finally:
            self._turns.end(update.scope.context.chat_id, update.turn)
            self._in_flight.add(-1)

    def _do_delivered(
        self, delivery: ThreadDelivery, update: ThreadUpdate, task: Callable[..., object], *args: Any, **kwargs: Any
    ) -> None:
        """Do it for somebody who waits for the update, and whom no error of a handler concerns."""
        token = delivering.set(delivery)
        try:
            self._do(update, task, *args, **kwargs)
        except Exception as error:
            if not self.bot._handle_exception(error):
                _log.exception("a handler failed, and what it did to its session is lost")
        finally:
            delivering.reset(token)
            delivery.end()

    def poll(self, *args: Any, **kwargs: Any) -> None:
        """Open the storages, poll, and close them when the updates that were received are done."""
        with self.started():
            try:
                self._poll(*args, **kwargs)
            finally:
                self._in_flight.wait(_DRAIN_TIMEOUT, self._working)

    @contextmanager
    def started(self) -> Generator[LoopThread]:
        """Keep the storages open; gives the event loop in which all sessions are."""
        with ExitStack() as stack:
            for manager, binding in zip(self._managers, self.bindings.all, strict=True):
                manager.attach(binding)
                stack.callback(_detach, manager, binding)
            yield self._join()

    def _working(self) -> bool:
        return not self.bot.threaded or any(worker.is_alive() for worker in self.bot.worker_pool.workers)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run an async function in the event loop in which all sessions are."""
        return self._join().call(function)

    def _join(self) -> LoopThread:
        loop_threads = [manager.join() for manager in self._managers]
        return loop_threads[0]


def _detach(manager: SessionManager[Any], binding: SessionBinding[Any]) -> None:
    left = manager.detach(binding, _DRAIN_TIMEOUT)
    if left:
        _log.error("%d sessions were still open when the bot had stopped; their changes are lost", left)


class _Coming:
    """An update that is being given to the bot's threads.

    Args:
        update_id: its id; `None`: it came past `process_new_updates`.
        delivery: of somebody who waits for it.
    """

    def __init__(self, update_id: int | None, delivery: ThreadDelivery | None) -> None:
        self.delivery = delivery
        self._update_id = update_id
        self._tasks = 0

    def next_id(self) -> int | str | None:
        """The id of a further task of the update, each of which remembers by its own that it was done."""
        self._tasks += 1
        return self._update_id if self._tasks == 1 or self._update_id is None else f"{self._update_id}/{self._tasks}"


class _Batch(threading.local):
    """The updates that a thread is giving to the bot's threads."""

    def __init__(self) -> None:
        self.coming: dict[int, _Coming] = {}
        """By what their handlers get."""
        self.deliveries: Mapping[int, ThreadDelivery] = {}
        """By their ids, of those that polling has brought."""


def _thread_delivery() -> ThreadDelivery | None:
    delivery = delivering.get()
    return delivery if isinstance(delivery, ThreadDelivery) else None
