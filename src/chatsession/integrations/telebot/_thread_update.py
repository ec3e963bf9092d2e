"""One update of a synchronous `TeleBot`: its handlers run in one thread, as one unit of work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from chatsession.integrations.injection import keywords_of
from chatsession.integrations.polling.delivery import note_undone
from chatsession.integrations.telebot._ids import chats_of_move
from chatsession.integrations.telebot._states import SyncSessionStateStorage
from chatsession.integrations.telebot._thread_context import SyncSessionContext
from chatsession.integrations.telebot._turns import Turn
from chatsession.integrations.update_scope import SessionBinding, UpdateScope, name_taken

if TYPE_CHECKING:
    from chatsession.integrations.telebot._thread_dispatch import ThreadDispatch


class ThreadUpdate:
    """One task of the bot for one update: middlewares and handlers, or a callback that waited for this message."""

    def __init__(self, dispatch: ThreadDispatch, scope: UpdateScope, turn: Turn) -> None:
        self.dispatch: ThreadDispatch = dispatch
        self.scope: UpdateScope = scope
        self.turn: Turn = turn
        for binding, session in zip(dispatch.bindings.all, scope.sessions, strict=True):
            scope.contexts[binding.context_name] = SyncSessionContext(self.call, session)

    def do(self, task: Callable[..., object], payload: object, *args: Any, **kwargs: Any) -> None:
        """Do it as one unit of work."""
        edge = _Edge(self.scope)
        try:
            if self.scope.context.moves_chat:
                self.call(self.scope.follow_chat)
                bot = self.dispatch.bot
                if isinstance(bot.current_states, SyncSessionStateStorage):
                    bot.current_states.follow_chat(bot.bot_id, *chats_of_move(self.scope.context))
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
            note_undone(edge.exception)
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

    def __init__(self, update: ThreadUpdate, function: Callable[..., Any], edge: _Edge) -> None:
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
