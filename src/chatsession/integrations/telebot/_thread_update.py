"""One update of a synchronous `TeleBot`: its handlers run in one thread, as one unit of work."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from chatsession.integrations.injection import keywords_of
from chatsession.integrations.polling.delivery import note_undone
from chatsession.integrations.telebot._handlers import HandledUpdate, Handler
from chatsession.integrations.telebot._ids import chats_of_move
from chatsession.integrations.telebot._states import SyncSessionStateStorage
from chatsession.integrations.telebot._thread_context import SyncSessionContext
from chatsession.integrations.telebot._turns import Turn
from chatsession.integrations.update_scope import SessionBinding, UpdateScope

if TYPE_CHECKING:
    from chatsession.integrations.telebot._thread_dispatch import ThreadDispatch


class ThreadUpdate(HandledUpdate["ThreadDispatch"]):
    """One task of the bot for one update: its handlers, or a callback that waited for this message."""

    def __init__(self, dispatch: ThreadDispatch, scope: UpdateScope, turn: Turn, *, is_reply: bool) -> None:
        super().__init__(dispatch, scope)
        self.is_reply: bool = is_reply
        """The task is a callback of `register_for_reply`."""
        self.turn: Turn = turn
        for binding, session in zip(dispatch.bindings.all, scope.sessions, strict=True):
            scope.contexts[binding.context_name] = SyncSessionContext(self.call, session)

    def run(self, task: Callable[..., object], payload: object, *args: Any, **kwargs: Any) -> None:
        """Run the task as one unit of work."""
        try:
            if self.scope.context.moves_chat:
                self._follow_chat()
            if task == self.dispatch.handle:
                self._handle(payload, **kwargs)
            else:
                _ThreadHandler(self, task)(payload, *args, **kwargs)
        except BaseException:
            self.abort()
            raise
        if self.exception is None:
            self._end(self.scope.commit)
        else:
            note_undone(self.exception)
            self.abort()

    def _follow_chat(self) -> None:
        self.call(self.scope.follow_chat)
        bot = self.dispatch.bot
        if isinstance(bot.current_states, SyncSessionStateStorage):
            bot.current_states.follow_chat(bot.bot_id, *chats_of_move(self.scope.context))

    def _handle(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        calls = ({**each, "function": _ThreadHandler(self, each["function"])} for each in handlers or ())
        if self.dispatch.bot.use_class_middlewares:
            middlewares = [self, *(middlewares or ())]
        self.dispatch.handle(payload, calls, middlewares, update_type)

    def pre_process(self, message: object, data: dict[str, object]) -> None:
        """Called by telebot before all other middlewares."""
        self.give_contexts(data)

    def post_process(self, message: object, data: dict[str, object], exception: Exception | None) -> None:
        """Called by telebot when the handlers have ended."""
        self.exception = exception

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
            self.turn.pass_on()  # the next update, which asks after this, comes behind it in the queue of the key
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
                if binding.name in given and binding.lazy:  # there is nothing to await here: naming it loads it
                    given[binding.name] = await session.load()
        return given

    def _end(self, end: Callable[[], Any]) -> None:
        if any(session.opened is not None for session in self.scope.sessions):
            self.dispatch.call(end)
            return
        for session in self.scope.sessions:
            session.close()


class _ThreadHandler(Handler[ThreadUpdate]):
    def __call__(self, *args: object, **kwargs: object) -> object:
        update = self._update
        names, signature = update.dispatch.named_by(self._function)
        if names:
            update.check_names(names)
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
