"""Sessions in the threads of a synchronous `TeleBot`: the methods of the bot that are replaced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from telebot import TeleBot, types

from chatsession.errors import SessionError
from chatsession.integrations.polling.delivery import ThreadDelivery, delivering, note_undone
from chatsession.integrations.polling.setup import stopped_by
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._handlers import ATTRIBUTE, BotSessions, parsed
from chatsession.integrations.telebot._ids import payloads
from chatsession.integrations.telebot._thread_update import ThreadUpdate
from chatsession.integrations.telebot._turns import Turn, Turns
from chatsession.integrations.update_scope import SessionBinding
from chatsession.sync import SessionManager
from chatsession.sync.loop_thread import LoopThread

_log = logging.getLogger("chatsession")

_HOOKS = {
    "_exec_task": ("task",),
    "_run_middlewares_and_handler": ("message", "handlers", "middlewares", "update_type"),
    "_handle_exception": ("exception",),
    "_notify_reply_handlers": ("new_messages",),
    "process_new_updates": ("updates",),
    "polling": (),
    "stop_bot": (),
}
_DRAIN_TIMEOUT = 30.0


def thread_dispatch_of(bot: TeleBot) -> ThreadDispatch:
    """The dispatch of a bot; made by the first call."""
    return cast("ThreadDispatch | None", vars(bot).get(ATTRIBUTE)) or ThreadDispatch(bot)


class ThreadDispatch(BotSessions):
    """Replaces the methods of one bot by which updates come in, are given to threads, and are handled."""

    def __init__(self, bot: TeleBot) -> None:
        super().__init__(bot, TeleBot, _HOOKS)
        self._managers: list[tuple[SessionManager[Any], SessionBinding[Any]]] = []
        self._turns = Turns()
        self._batch = _Batch()
        self._process: Callable[[Sequence[types.Update]], None] = self.bot.process_new_updates
        self._execute: Callable[..., None] = self.bot._exec_task
        self._poll: Callable[..., None] = self.bot.polling
        self._notify_replies: Callable[[list[types.Message]], None] = self.bot._notify_reply_handlers
        self.handle: Callable[..., None] = self.bot._run_middlewares_and_handler
        """Runs the middlewares and handlers of an update."""
        self.bot.process_new_updates = self.process
        self.bot._exec_task = self.execute
        self.bot.polling = self.poll
        self.bot._notify_reply_handlers = self.notify_replies

    def add_manager(self, sessions: SessionManager[Any], *, lazy: bool, per_bot: bool) -> None:
        """Set up a manager."""
        binding = SessionBinding(sessions.asynchronous, lazy=lazy, per_bot=per_bot)
        self.add(binding)
        self._managers.append((sessions, binding))

    def deliver(self, updates: Sequence[RawUpdate], deliveries: Mapping[int, ThreadDelivery]) -> None:
        """Handle a batch from `start_polling`, and end the delivery of each update, which is under its id."""
        self._batch.deliveries = deliveries
        try:
            self.bot.process_new_updates(parsed(updates))
        except Exception:
            _log.exception("updates failed")
        finally:
            self._batch.deliveries = {}
        for delivery in deliveries.values():
            delivery.end()

    def process(self, updates: Sequence[types.Update]) -> None:
        """Handle a batch. Only here are the ids of its updates known.

        Raises:
            RuntimeError: the bot's threads do not run.
        """
        deliveries = self._batch.deliveries
        if not deliveries:
            self.check_threads()
        waiting = delivering.get()
        outer = self._batch.incoming
        self._batch.incoming = {
            id(payload): _Incoming(
                update.update_id,
                deliveries.get(update.update_id, waiting if isinstance(waiting, ThreadDelivery) else None),
            )
            for update in updates
            for payload in payloads(update)
        }
        try:
            self._process(updates)
        finally:
            self._batch.incoming = outer

    def notify_replies(self, messages: list[types.Message]) -> None:
        """Give messages to the callbacks that wait for a reply."""
        self._batch.replies = True
        try:
            self._notify_replies(messages)
        finally:
            self._batch.replies = False

    def execute(self, task: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Give one task of an update to a thread, or do it here if the bot has none."""
        if not args or not isinstance(args[0], types.JsonDeserializable):  # a listener, which gets a whole batch
            self._execute(task, *args, **kwargs)
            return
        incoming = self._batch.incoming.get(id(args[0])) or _Incoming(None, None)
        scope = self.scope_of(args[0], cast("int | None", incoming.next_id()))
        delivery = incoming.delivery
        if delivery is not None:
            delivery.begin()
        if not self.bot.threaded:
            update = ThreadUpdate(self, scope, Turn(), is_reply=self._batch.replies)
            self._execute(self._run, update, delivery, task, *args, **kwargs)
            return
        with self._turns.next(scope.context.chat_id) as turn:
            update = ThreadUpdate(self, scope, turn, is_reply=self._batch.replies)
            self._execute(self._run_in_turn, update, delivery, task, *args, **kwargs)

    def _run_in_turn(self, update: ThreadUpdate, *args: Any, **kwargs: Any) -> None:
        try:
            self._run(update, *args, **kwargs)
        finally:
            self._turns.end(update.scope.context.chat_id, update.turn)

    def _run(
        self,
        update: ThreadUpdate,
        delivery: ThreadDelivery | None,
        task: Callable[..., object],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        token = delivering.set(delivery)
        try:
            update.run(task, *args, **kwargs)
        except SessionError as error:  # an update that is lost is no reason to stop polling
            note_undone(error)
            if not self.bot._handle_exception(error):
                _log.error("an update was not handled, or what it did to its session is lost: %s", error)
        except Exception as error:
            if delivery is None:
                raise  # telebot gives it to the exception handler, or stops polling
            if not self.bot._handle_exception(error):
                _log.exception("a handler failed, and what it did to its session is lost")
        finally:
            delivering.reset(token)
            if delivery is not None:
                if delivery.error is not None and task != self.handle:
                    self._wait_again(update, task, *args, **kwargs)
                delivery.end()

    def _wait_again(
        self, update: ThreadUpdate, callback: Callable[..., object], message: types.Message, *args: Any, **kwargs: Any
    ) -> None:
        """Let a callback wait for its message, which is delivered again. telebot has forgotten the callback."""
        if update.is_reply:
            self.bot.register_for_reply(message.reply_to_message, callback, *args, **kwargs)
        else:
            self.bot.register_next_step_handler(message, callback, *args, **kwargs)

    def poll(self, *args: Any, **kwargs: Any) -> None:
        """Open the storages, poll, and close them when the updates that were received are done."""
        with self.started():
            try:
                self._poll(*args, **kwargs)
            finally:
                self._turns.wait(_DRAIN_TIMEOUT, self._has_threads)

    @contextmanager
    def started(self) -> Generator[LoopThread]:
        """Keep the storages open; gives the event loop that all sessions belong to.

        In the block, `stop_bot` only stops polling, and the bot's threads end after it. A handler may call it, while
        other threads wait for its session.
        """
        with ExitStack() as stack:
            for manager, binding in self._managers:
                manager.attach(binding)
                stack.callback(_detach, manager, binding)

            def stop_bot() -> None:
                self.bot.stop_polling()
                if self.bot.threaded:
                    stack.callback(self.bot.worker_pool.close)

            stack.enter_context(stopped_by(self.bot, stop_bot=stop_bot))
            yield self._join()

    def check_threads(self) -> None:
        """Raises `RuntimeError` if nothing would handle an update."""
        if not self._has_threads():
            raise RuntimeError(
                "the threads of this TeleBot do not run: stop_bot() ended them, or they were left behind when the "
                "process was forked; behind a server that forks, use TeleBot(…, threaded=False)"
            )

    def _has_threads(self) -> bool:
        return not self.bot.threaded or any(worker.is_alive() for worker in self.bot.worker_pool.workers)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run an async function in the event loop that all sessions belong to."""
        return self._join().call(function)

    def _join(self) -> LoopThread:
        loop_threads = [manager.join() for manager, _ in self._managers]
        return loop_threads[0]


def _detach(manager: SessionManager[Any], binding: SessionBinding[Any]) -> None:
    left = manager.detach(binding, _DRAIN_TIMEOUT)
    if left:
        _log.error("%d sessions were still open when the bot had stopped; their changes are lost", left)


class _Incoming:
    """An update that is being given to the bot's threads.

    Args:
        update_id: its id; `None`: it did not come by `process_new_updates`.
        delivery: waits for the end of the update.
    """

    def __init__(self, update_id: int | None, delivery: ThreadDelivery | None) -> None:
        self.delivery = delivery
        self._update_id = update_id
        self._tasks = 0

    def next_id(self) -> int | str | None:
        """The id of the next task of the update. Sessions remember each task by an id of its own."""
        self._tasks += 1
        return self._update_id if self._tasks == 1 or self._update_id is None else f"{self._update_id}/{self._tasks}"


class _Batch(threading.local):
    """The updates that one thread is giving to the bot's threads."""

    def __init__(self) -> None:
        self.incoming: dict[int, _Incoming] = {}
        """By the `id` of what their handlers get."""
        self.deliveries: Mapping[int, ThreadDelivery] = {}
        """Those of `start_polling`, by the ids of the updates."""
        self.replies = False
        """Messages are being given to the callbacks that wait for a reply."""
