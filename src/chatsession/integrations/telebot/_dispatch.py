"""Sessions in an `AsyncTeleBot`: the methods of the bot that are replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

from telebot import types
from telebot.async_telebot import AsyncTeleBot

from chatsession.errors import SessionError
from chatsession.integrations.injection import keywords_of
from chatsession.integrations.polling.delivery import PolledUpdate, note_undone
from chatsession.integrations.states.unit import StateUnit
from chatsession.integrations.telebot._handlers import ATTRIBUTE, BotSessions, HandledUpdate, Handler, parsed
from chatsession.integrations.telebot._ids import chats_of_move, payloads
from chatsession.integrations.telebot._states import SessionStateStorage, key_of
from chatsession.integrations.update_scope import UpdateScope

_log = logging.getLogger("chatsession")

_HOOKS = {
    "_run_middlewares_and_handlers": ("message", "handlers", "middlewares", "update_type"),
    "_process_polling": (),
    "_handle_exception": ("exception",),
    "process_new_updates": ("updates",),
    "close_session": (),
}
_DRAIN_TIMEOUT = 30.0


def dispatch_of(bot: AsyncTeleBot) -> Dispatch:
    """The dispatch of a bot; made by the first call."""
    return cast("Dispatch | None", vars(bot).get(ATTRIBUTE)) or Dispatch(bot)


class Dispatch(BotSessions):
    """Replaces the methods of one bot by which updates come in, are handled, and end."""

    def __init__(self, bot: AsyncTeleBot) -> None:
        super().__init__(bot, AsyncTeleBot, _HOOKS)
        self.states: SessionStateStorage | None = None
        """The storage of the bot's states, if `setup_fsm` was called."""
        self._update_ids: dict[int, int] = {}
        """The updates that may still need their sessions: their ids, by the `id` of what their handlers get."""
        self._polled: dict[int, PolledUpdate] = {}
        """Updates from `start_polling` whose handlers have not begun, by their ids."""
        self._all_served: asyncio.Future[None] | None = None
        self._process: Callable[[Sequence[types.Update]], Awaitable[None]] = self.bot.process_new_updates
        self._poll: Callable[..., Awaitable[None]] = self.bot._process_polling
        self._close: Callable[[], Awaitable[None]] = self.bot.close_session
        self.handle: Callable[..., Awaitable[None]] = self.bot._run_middlewares_and_handlers
        """Runs the middlewares and handlers of an update."""
        self.bot.process_new_updates = self.process
        self.bot._run_middlewares_and_handlers = self.run
        self.bot._process_polling = self.poll
        self.bot.close_session = self.close

    async def process(self, updates: Sequence[types.Update]) -> None:
        """Handle a batch. Only here are the ids of its updates known."""
        update_ids = {id(payload): update.update_id for update in updates for payload in payloads(update)}
        self._update_ids.update(update_ids)
        try:
            await self._process(updates)
        finally:
            for payload in update_ids:
                self.served(payload)

    async def deliver(self, batch: Sequence[PolledUpdate]) -> None:
        """Handle a batch of updates of one kind, and end each of them when it is handled."""
        self._polled.update({polled.update_id: polled for polled in batch})
        try:
            await self.bot.process_new_updates(parsed(polled.update for polled in batch))
        except Exception:
            _log.exception("updates failed")
        finally:
            without_handlers = [polled for polled in batch if self._polled.pop(polled.update_id, None)]
        for polled in without_handlers:
            polled.end()

    async def run(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        """Handle one update."""
        polled = self._polled.pop(self._update_ids.get(id(payload), -1), None)
        if polled is None:
            await self._handle(payload, handlers, middlewares, update_type)
        else:
            await polled.handle(partial(self._handle, payload, handlers, middlewares, update_type))

    async def _handle(self, payload: object, handlers: Any, middlewares: Any, update_type: str) -> None:
        try:
            scope = self.scope_of(payload, self._update_ids.get(id(payload)))
            if scope.context.moves_chat:  # before anything is locked: what is locked cannot move
                await self._follow_chat(scope)
            key = None if self.states is None else key_of(payload, self.bot.bot_id)
            if self.states is None or key is None:
                await _Update(self, scope).run(handlers, middlewares, update_type)
            else:
                async with self.states.states.unit(key) as states:
                    await _Update(self, scope, states).run(handlers, middlewares, update_type)
        except SessionError as error:  # raised from here, it would end the rest of the batch
            note_undone(error)
            if not await self.bot._handle_exception(error):
                _log.error("an update was not handled, or what it did to its session is lost: %s", error)
        finally:
            self.served(id(payload))

    async def _follow_chat(self, scope: UpdateScope) -> None:
        try:
            if self.states is not None:
                await self.states.follow_chat(self.bot.bot_id, *chats_of_move(scope.context))
            await scope.follow_chat()
        except SessionError:
            raise
        except Exception as error:  # of a `get_session_key`
            raise SessionError(f"the sessions of a chat that moved could not follow it: {error!r}") from error

    async def poll(self, *args: Any, **kwargs: Any) -> None:
        """Open the storages, and poll."""
        await self.start()
        await self._poll(*args, **kwargs)

    async def start(self) -> None:
        """Open the storages."""
        await self.bindings.start()
        if self.states is not None:
            await self.states.states.start(self)

    async def close(self) -> None:
        """Close the storages, then the connection to Telegram, by which handlers may still answer until then."""
        try:
            await asyncio.sleep(0)  # the tasks of updates that were received just now begin, and are counted
            if self._update_ids:
                self._all_served = self._all_served or asyncio.get_running_loop().create_future()
                await asyncio.wait([self._all_served], timeout=_DRAIN_TIMEOUT)
            await self.bindings.release(_DRAIN_TIMEOUT)
            if self.states is not None:
                await self.states.states.release(self, _DRAIN_TIMEOUT)
        finally:
            await self._close()

    def served(self, payload: int) -> None:
        """An update is done, or needs no session: `close` does not wait for it.

        Args:
            payload: the `id` of what its handlers get.
        """
        self._update_ids.pop(payload, None)
        if self._all_served is not None and not self._update_ids:
            self._all_served.set_result(None)
            self._all_served = None


class _Update(HandledUpdate[Dispatch]):
    def __init__(self, dispatch: Dispatch, scope: UpdateScope, states: StateUnit | None = None) -> None:
        super().__init__(dispatch, scope)
        if states is not None:
            states.join(scope)

    async def run(self, handlers: Any, middlewares: Any, update_type: str) -> None:
        """Run the handlers as one unit of work."""
        calls = ({**each, "function": _Handler(self, each["function"])} for each in handlers or ())
        middlewares = [self, *(middlewares or ())]
        try:
            await self.dispatch.handle(self.scope.context.update, calls, middlewares, update_type)
        except BaseException:
            await self.abort()
            raise
        if self.exception is not None:
            note_undone(self.exception)
            await self.abort()
        else:
            await self.scope.commit()

    async def pre_process(self, message: object, data: dict[str, object]) -> None:
        self.give_contexts(data)

    async def post_process(self, message: object, data: dict[str, object], exception: Exception | None) -> None:
        self.exception = exception

    async def abort(self) -> None:
        """A handler failed: write nothing. May be called twice."""
        await self.scope.abort()
        if self.scope.states is not None:
            await self.scope.states.abort()


class _Handler(Handler[_Update]):
    async def __call__(self, *args: object, **kwargs: object) -> object:
        update = self._update
        names, signature = update.dispatch.named_by(self._function)
        if not names and "data" not in signature.parameters:
            update.dispatch.served(id(update.scope.context.update))
        try:
            update.check_names(names)
            given = await keywords_of(update.scope, names)
            if given is None:
                return None
            return await self._function(*args, **kwargs, **given)
        except BaseException:
            await update.abort()  # now, since telebot goes on with the bot's exception_handler
            raise
