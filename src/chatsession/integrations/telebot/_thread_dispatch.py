"""Sessions in the threads of a synchronous `TeleBot`."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Generic, TypeVar, cast

from telebot import TeleBot, types

from chatsession.errors import SessionError
from chatsession.integrations.injection import keywords_of
from chatsession.integrations.telebot._handlers import NAMES_OF_TELEBOT, AskedSessions, check_hooks
from chatsession.integrations.telebot._ids import context_of, payloads
from chatsession.integrations.telebot._turns import InFlight, Turn, Turns
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope, name_taken
from chatsession.integrations.update_session import UpdateSession
from chatsession.sync import SessionManager
from chatsession.unit_of_work.unit import UnitOfWork

T = TypeVar("T")

_log = logging.getLogger("chatsession")

_HOOKS = {
    "_exec_task": ("task",),
    "_run_middlewares_and_handler": ("message", "handlers", "middlewares", "update_type"),
    "_handle_exception": ("exception",),
    "process_new_updates": ("updates",),
    "polling": (),
}
"""What this stands before, and the parameters on which it relies."""
_PLACE = "_chatsession"
_DRAIN_TIMEOUT = 30.0


def thread_dispatch_of(bot: TeleBot) -> ThreadDispatch:
    """What stands before the places of this bot."""
    return cast("ThreadDispatch | None", vars(bot).get(_PLACE)) or ThreadDispatch(bot)


class SyncSessionContext(Generic[T]):
    """What a handler of a `TeleBot` gets that names `ctx`: `ctx.session` to read, assign, and delete by `None`.

    Where the session is not loaded for you (in middlewares, and under `lazy=True`), `ctx.session` loads it.
    """

    __slots__ = ("_update", "_update_session")

    def __init__(self, update: _Update, update_session: UpdateSession[T]) -> None:
        self._update = update
        self._update_session = update_session

    @property
    def session(self) -> T:
        """The value. Assign to replace it, assign `None` to delete the session.

        Raises:
            SessionKeyError: the update has no session.
            SessionClosedError: the update is done, or the session was released and is assigned.
        """
        opened = self._update_session.opened
        return opened.data if isinstance(opened, UnitOfWork) else self.load_session()

    @session.setter
    def session(self, value: T | None) -> None:
        if self._update_session.opened is None:
            self._update.call(self._update_session.open)
        self._update_session.holder.data = value

    def load_session(self) -> T:
        """Give the value, as `ctx.session` does."""
        return self._update.call(self._update_session.load)

    def save_session(self) -> None:
        """Commit now what has changed, and go on (`Session.save`)."""
        self._update.call(self._update_session.holder.save)

    def release_session(self) -> None:
        """Commit now what has changed, and let this chat's next update run (`Session.release`)."""
        self._update.call(self._update_session.holder.release)


class ThreadDispatch:
    """Stands before the places of one bot where updates come in, are given to threads, and are handled."""

    def __init__(self, bot: TeleBot) -> None:
        check_hooks(TeleBot, _HOOKS)
        self.bot: Any = bot
        self.bindings: SessionBindings = SessionBindings()
        self.asked: AskedSessions = AskedSessions(self.bindings)
        self._managers: list[SessionManager[Any]] = []
        self._turns = Turns()
        self._in_flight = InFlight()
        self._batch = threading.local()
        """The updates that this thread is giving to the bot's threads."""
        self._process: Callable[[Sequence[types.Update]], None] = self.bot.process_new_updates
        self._execute: Callable[..., None] = self.bot._exec_task
        self._poll: Callable[..., None] = self.bot.polling
        self.handle: Callable[..., None] = self.bot._run_middlewares_and_handler
        """Runs the middlewares and handlers of an update."""
        setattr(self.bot, _PLACE, self)
        self.bot.process_new_updates = self.process
        self.bot._exec_task = self.execute
        self.bot.polling = self.poll

    def add(self, sessions: SessionManager[Any], *, lazy: bool, per_bot: bool) -> None:
        """Set up a manager."""
        self.bindings.add(SessionBinding(sessions.asynchronous, lazy=lazy, per_bot=per_bot), NAMES_OF_TELEBOT)
        self._managers.append(sessions)
        self.asked.clear()

    def process(self, updates: Sequence[types.Update]) -> None:
        """Give a batch to the bot's threads; here only are the ids of its updates known."""
        outer: dict[int, _Ids] = getattr(self._batch, "ids", {})
        self._batch.ids = {id(payload): _Ids(update.update_id) for update in updates for payload in payloads(update)}
        try:
            self._process(updates)
        finally:
            self._batch.ids = outer

    def execute(self, task: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Give one task of an update to a thread, or do it here if the bot has none."""
        if not args or not isinstance(args[0], types.JsonDeserializable):  # a listener, which gets a whole batch
            self._execute(task, *args, **kwargs)
            return
        ids: _Ids | None = getattr(self._batch, "ids", {}).get(id(args[0]))
        context = context_of(self.bot, args[0], None if ids is None else cast("int", ids.next()), None)
        turn = self._turns.take(context.chat_id) if self.bot.threaded else Turn()
        update = _Update(self, UpdateScope(self.bindings, context), turn)
        self._in_flight.add(1)
        self._execute(partial(self._do, update, task), *args, **kwargs)

    def _do(self, update: _Update, task: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        try:
            update.do(task, *args, **kwargs)
        except SessionError as error:  # an update that must be given up is no reason to stop polling
            if not self.bot._handle_exception(error):
                _log.error("an update was not handled, or what it did to its session is lost: %s", error)
        finally:
            self._turns.end(update.scope.context.chat_id, update.turn)
            self._in_flight.add(-1)

    def poll(self, *args: Any, **kwargs: Any) -> None:
        """Open the storages, poll, and close them when the updates that were received are done."""
        with ExitStack() as stack:
            for manager, binding in zip(self._managers, self.bindings.all, strict=True):
                manager.attach(binding)
                stack.callback(_detach, manager, binding)
            stack.callback(self._in_flight.wait, _DRAIN_TIMEOUT, self._working)
            self._poll(*args, **kwargs)

    def _working(self) -> bool:
        return not self.bot.threaded or any(worker.is_alive() for worker in self.bot.worker_pool.workers)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run an async function in the event loop in which all sessions are."""
        loop_threads = [manager.join() for manager in self._managers]
        return loop_threads[0].call(function)


def _detach(manager: SessionManager[Any], binding: SessionBinding[Any]) -> None:
    left = manager.detach(binding, _DRAIN_TIMEOUT)
    if left:
        _log.error("%d sessions were still open when the bot had stopped; their changes are lost", left)


class _Ids:
    """The ids of an update's tasks, each of which remembers by its own that it was done."""

    def __init__(self, update_id: int) -> None:
        self._update_id = update_id
        self._tasks = 0

    def next(self) -> int | str:
        self._tasks += 1
        return self._update_id if self._tasks == 1 else f"{self._update_id}/{self._tasks}"


class _Update:
    """One task of the bot for one update: middlewares and handlers, or a callback that waited for this message."""

    def __init__(self, dispatch: ThreadDispatch, scope: UpdateScope, turn: Turn) -> None:
        self.dispatch: ThreadDispatch = dispatch
        self.scope: UpdateScope = scope
        self.turn: Turn = turn
        for binding, session in zip(dispatch.bindings.all, scope.sessions, strict=True):
            scope.contexts[binding.context_name] = SyncSessionContext(self, session)

    def do(self, task: Callable[..., object], payload: object, *args: Any, **kwargs: Any) -> None:
        """Do it as one unit of work."""
        edge = _Edge(self.scope)
        try:
            if self.scope.context.moves_chat:
                self.call(self.scope.follow_chat)
            if task == self.dispatch.handle:
                self._handle(edge, payload, **kwargs)
            else:
                _Call(self, task, edge)(payload, *args, **kwargs)
        except BaseException:
            self.abort()
            raise
        if edge.exception is None:
            self._end(self.scope.commit)
        else:
            self.abort()

    def _handle(self, edge: _Edge, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        calls = [{**handler, "function": _Call(self, handler["function"], edge)} for handler in handlers or ()]
        if self.dispatch.bot.use_class_middlewares:
            middlewares = [edge, *(middlewares or ())]
        self.dispatch.handle(payload, calls, middlewares, update_type)

    def load(self, names: Collection[str]) -> dict[str, object] | None:
        """Load the sessions that a handler names; its keywords, or `None` if they have all seen the update."""
        return self._in_turn(partial(self._load, names), asks=self._asks(names))

    def call(self, function: Callable[[], Any]) -> Any:
        """Open, load or commit, in the event loop, when it is this update's turn."""
        return self._in_turn(function, asks=True)

    def abort(self) -> None:
        """Write nothing. May be called twice."""
        self._end(self.scope.abort)

    def _in_turn(self, function: Callable[[], Any], *, asks: bool) -> Any:
        self.turn.wait()
        if not asks or self.turn.passed:
            return self.dispatch.call(function)

        async def ask() -> Any:
            self.turn.pass_on()  # who asks after this is behind it in the queue of the key
            return await function()

        return self.dispatch.call(ask)

    def _asks(self, names: Collection[str]) -> bool:
        """Whether a session is asked for at once, or only if the handler uses it."""
        return any(
            binding.name in names or (binding.context_name in names and not self._waits_for_use(binding))
            for binding in self.dispatch.bindings.all
        )

    def _waits_for_use(self, binding: SessionBinding[Any]) -> bool:
        return binding.lazy and not binding.sessions.runtime.deduplicate

    async def _load(self, names: Collection[str]) -> dict[str, object] | None:
        given = await keywords_of(self.scope, names)
        if given is not None:
            for binding, session in zip(self.dispatch.bindings.all, self.scope.sessions, strict=True):
                if binding.name in given and binding.lazy:  # there is nothing to await here: to name it is to ask
                    given[binding.name] = await session.load()
        return given

    def _end(self, end: Callable[[], Any]) -> None:
        if any(session.opened is not None for session in self.scope.sessions):
            self.dispatch.call(end)
            return
        for session in self.scope.sessions:
            session.close()


class _Edge:
    """Goes first among class middlewares: gives the contexts to all that follow, and learns how the update ended."""

    update_sensitive = False

    def __init__(self, scope: UpdateScope) -> None:
        self.data: dict[str, object] = {}
        self.exception: Exception | None = None
        self._contexts = scope.contexts

    def pre_process(self, message: object, data: dict[str, object]) -> None:
        self.data = data
        data.update(self._contexts)

    def post_process(self, message: object, data: dict[str, object], exception: Exception | None) -> None:
        self.exception = exception

    def check(self, names: Iterable[str]) -> None:
        """Raises `SessionNameError` if a middleware has given handlers something else under one of these names."""
        for name in names:
            if name in self.data and self.data[name] is not self._contexts.get(name):
                raise name_taken(name, self.data, "from a middleware")


class _Call:
    """A handler in one update: telebot sees its other parameters, and calls it by these."""

    def __init__(self, update: _Update, function: Callable[..., Any], edge: _Edge) -> None:
        self._update = update
        self._function = function
        self._edge = edge

    def __repr__(self) -> str:
        return repr(self._function)  # telebot's messages have it

    @property
    def __signature__(self) -> inspect.Signature:
        return self._update.dispatch.asked.by(self._function)[1]

    def __call__(self, *args: object, **kwargs: object) -> object:
        update = self._update
        names, signature = update.dispatch.asked.by(self._function)
        if names:
            self._edge.check(names)
            given = update.load(names)
            if given is None:
                return None
        else:
            given = {}
            update.scope.handled = True
            if "data" not in signature.parameters:
                update.turn.pass_on()
        try:
            return self._function(*args, **kwargs, **given)
        except BaseException:
            update.abort()  # now, since telebot goes on with the bot's exception_handler
            raise
