"""The places of one `AsyncTeleBot` where updates come in, are handled, and come to an end."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, cast

from telebot import types
from telebot.async_telebot import AsyncTeleBot

from chatsession.errors import SessionError
from chatsession.integrations.injection import keywords_of
from chatsession.integrations.polling.delivery import PolledUpdate, note_undone
from chatsession.integrations.states.unit import StateUnit
from chatsession.integrations.telebot._handlers import NAMES_OF_TELEBOT, PLACE, AskedSessions, check_hooks
from chatsession.integrations.telebot._ids import chats_of_move, context_of, payloads
from chatsession.integrations.telebot._methods import methods_of_bot
from chatsession.integrations.telebot._states import SessionStateStorage, key_of
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope

_log = logging.getLogger("chatsession")

_HOOKS = {
    "_run_middlewares_and_handlers": ("message", "handlers", "middlewares", "update_type"),
    "_process_polling": (),
    "_handle_exception": ("exception",),
    "process_new_updates": ("updates",),
    "close_session": (),
}
"""What the integration stands before, and the parameters on which it relies."""
_DRAIN_TIMEOUT = 30.0


def dispatch_of(bot: AsyncTeleBot) -> Dispatch:
    """What stands before the places of this bot."""
    return cast("Dispatch | None", vars(bot).get(PLACE)) or Dispatch(bot)


class Dispatch:
    """Stands before the places of one bot where updates come in, are handled, and come to an end."""

    def __init__(self, bot: AsyncTeleBot) -> None:
        check_hooks(AsyncTeleBot, _HOOKS)
        self._bot: Any = bot
        self._methods = methods_of_bot(bot)
        self.bindings = SessionBindings()
        self.asked = AskedSessions(self.bindings)
        self._coming: dict[int, int] = {}
        """The updates that may still want their sessions: by what their handlers get, their ids."""
        self._polled: dict[int, PolledUpdate] = {}
        """By their ids, those that polling has brought, and whose handlers have not begun."""
        self._none_coming: asyncio.Future[None] | None = None
        self._process: Callable[[Sequence[types.Update]], Awaitable[None]] = self._bot.process_new_updates
        self._run: Callable[..., Awaitable[None]] = self._bot._run_middlewares_and_handlers
        self._poll: Callable[..., Awaitable[None]] = self._bot._process_polling
        self._close: Callable[[], Awaitable[None]] = self._bot.close_session
        self.states: SessionStateStorage | None = None
        """The storage of the bot's states, if `setup_fsm` has set it up."""
        setattr(self._bot, PLACE, self)
        self._bot.process_new_updates = self.process
        self._bot._run_middlewares_and_handlers = self.run
        self._bot._process_polling = self.poll
        self._bot.close_session = self.close

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager."""
        self.bindings.add(binding, NAMES_OF_TELEBOT)
        self.asked.clear()

    async def process(self, updates: Sequence[types.Update]) -> None:
        """Handle a batch; here only are the ids of its updates known."""
        coming = {id(payload): update.update_id for update in updates for payload in payloads(update)}
        self._coming.update(coming)
        try:
            await self._process(updates)
        finally:
            for payload in coming:
                self._has_come(payload)

    async def deliver(self, batch: Sequence[PolledUpdate]) -> None:
        """Handle a batch of updates of one kind, and end each of them when it is handled."""
        updates: list[types.Update] = []
        for polled in batch:
            try:
                updates.append(cast("Any", types.Update).de_json(polled.update))
            except Exception:
                _log.exception("update %d cannot be read", polled.update_id)
            self._polled[polled.update_id] = polled
        try:
            await self._bot.process_new_updates(updates)
        except Exception:
            _log.exception("updates failed")
        finally:
            without_handlers = [polled for polled in batch if self._polled.pop(polled.update_id, None)]
        for polled in without_handlers:
            polled.end()

    async def run(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        """Handle one update."""
        polled = self._polled.pop(self._coming.get(id(payload), -1), None)
        if polled is None:
            await self._run_update(payload, handlers, middlewares, update_type)
        else:
            await polled.handle(partial(self._run_update, payload, handlers, middlewares, update_type))

    async def _run_update(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        try:
            await self._handle(payload, handlers, middlewares, update_type)
        except SessionError as error:  # raised from here, it would take the rest of the batch with it
            note_undone(error)
            if not await self._bot._handle_exception(error):
                _log.error("an update was not handled, or what it did to its session is lost: %s", error)
        finally:
            self._has_come(id(payload))

    async def _handle(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        context = context_of(self._bot, payload, self._coming.get(id(payload)), self._methods)
        scope = UpdateScope(self.bindings, context)
        edge = _Edge(scope)
        calls = ({**handler, "function": _Call(self, handler["function"], payload, edge)} for handler in handlers or ())
        if self.states is not None and context.moves_chat:  # before one of the records is locked, and cannot move
            await self.states.follow_chat(self._bot.bot_id, *chats_of_move(context))
        async with self._states_of(payload) as states:
            if states is not None:
                edge.states = states
                scope.beside = states.identify(scope.context.update_id)
            try:
                if scope.context.moves_chat:
                    await _follow_chat(scope)
                await self._run(payload, calls, [edge, *(middlewares or ())], update_type)
            except BaseException:
                await edge.abort()
                raise
            if edge.exception is not None:
                note_undone(edge.exception)
                await edge.abort()
            elif states is None:
                await scope.commit()
            else:
                states.add(scope)

    def _states_of(self, payload: object) -> AbstractAsyncContextManager[StateUnit | None]:
        """Lock the conversation of an update, which is committed when the block ends."""
        key = None if self.states is None else key_of(payload, self._bot.bot_id)
        return nullcontext() if self.states is None or key is None else self.states.states.unit(key)

    async def poll(self, *args: Any, **kwargs: Any) -> None:
        """Open the storages, and poll."""
        await self.start()
        await self._poll(*args, **kwargs)

    async def start(self) -> None:
        """Open the storages."""
        await self.bindings.start()
        if self.states is not None:
            await self.states.start()

    async def close(self) -> None:
        """Close the storages, then the connection to Telegram, by which handlers may still answer until then."""
        try:
            await asyncio.sleep(0)  # what was received just now takes its first step, by which it is known here
            if self._coming:
                self._none_coming = self._none_coming or asyncio.get_running_loop().create_future()
                await asyncio.wait([self._none_coming], timeout=_DRAIN_TIMEOUT)
            await self.bindings.release(_DRAIN_TIMEOUT)
            if self.states is not None:
                await self.states.close()
        finally:
            await self._close()

    def goes_without(self, payload: object) -> None:
        """A handler that names no session begins; it may take its time also when the bot stops."""
        self._has_come(id(payload))

    def _has_come(self, payload: int) -> None:
        self._coming.pop(payload, None)
        if self._none_coming is not None and not self._coming:
            self._none_coming.set_result(None)
            self._none_coming = None


class _Edge:
    """Goes first among the middlewares: gives the contexts to all that follow, and learns how the update ended."""

    update_sensitive = False

    def __init__(self, scope: UpdateScope) -> None:
        self.scope = scope
        self.data: dict[str, object] = {}
        self.exception: Exception | None = None
        self.states: StateUnit | None = None
        self._contexts = scope.contexts

    async def pre_process(self, message: object, data: dict[str, object]) -> None:
        self.data = data
        data.update(self._contexts)

    async def post_process(self, message: object, data: dict[str, object], exception: Exception | None) -> None:
        self.exception = exception

    async def abort(self) -> None:
        """A handler failed: write nothing. May be called twice."""
        await self.scope.abort()
        if self.states is not None:
            await self.states.abort()

    def check(self) -> None:
        """Raises `SessionNameError` if a middleware has given handlers something else under the name of a session."""
        self.scope.bindings.check_given(self.data, "from a middleware")


class _Call:
    """A handler in one update: telebot sees its other parameters, and calls it by these."""

    def __init__(
        self, dispatch: Dispatch, function: Callable[..., Awaitable[Any]], payload: object, edge: _Edge
    ) -> None:
        self._dispatch = dispatch
        self._function = function
        self._payload = payload
        self._edge = edge

    def __repr__(self) -> str:
        return repr(self._function)  # telebot's messages have it

    @property
    def __signature__(self) -> inspect.Signature:
        return self._dispatch.asked.by(self._function)[1]

    async def __call__(self, *args: object, **kwargs: object) -> object:
        scope = self._edge.scope
        names, signature = self._dispatch.asked.by(self._function)
        if not names and "data" not in signature.parameters:
            self._dispatch.goes_without(self._payload)
        try:
            self._edge.check()
            given = await keywords_of(scope, names)
            if given is None:
                return None
            return await self._function(*args, **kwargs, **given)
        except BaseException:
            await self._edge.abort()  # now, since telebot goes on with the bot's exception_handler
            raise


async def _follow_chat(scope: UpdateScope) -> None:
    try:
        await scope.follow_chat()
    except SessionError:
        raise
    except Exception as error:  # of a `get_session_key`
        raise SessionError(f"the sessions of a chat that moved could not follow it: {error!r}") from error
