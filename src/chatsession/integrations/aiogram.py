"""Sessions in aiogram 3: handlers that name `session` or `ctx` get them; all others cost nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

try:
    from aiogram import BaseMiddleware, Dispatcher
    from aiogram.dispatcher.event.bases import UNHANDLED, CancelHandler, SkipHandler
    from aiogram.dispatcher.middlewares.user_context import EventContext, UserContextMiddleware
    from aiogram.types import ErrorEvent, TelegramObject, Update
except ImportError as error:
    raise ImportError(
        "chatsession.integrations.aiogram needs aiogram 3.13 or newer: pip install 'chatsession[aiogram]'"
    ) from error

from chatsession.integrations._aiogram_scenes import SceneActions, named
from chatsession.integrations.update_scope import SetUp
from chatsession.integrations.update_session import LazySessionContext, SessionContext, UpdateContext, UpdateSession
from chatsession.manager import SessionManager

__all__ = ["LazySessionContext", "SessionContext", "UpdateContext", "setup_sessions"]

T = TypeVar("T")

_Next = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]

_NAMES_OF_AIOGRAM = frozenset(
    (
        *("bot", "bots", "dispatcher", "router", "handler", "state", "raw_state", "fsm_storage", "scenes"),
        *("event_update", "event_router", "event_context", "event_from_user", "event_chat", "event_thread_id"),
    )
)
_REMEMBERING = "_chatsession_remembering"


def setup_sessions(
    dispatcher: Dispatcher, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None:
    """Give the handlers of a dispatcher their sessions.

    A handler that names `session` (or the `name` of the manager) gets the data; one that names `ctx` (or
    `<name>_ctx`) gets a `SessionContext`, to assign and delete. The session is locked and loaded before the handler
    runs and committed after it, together for all handlers of one update. For a handler that names neither, nothing
    is locked, read or written.

    Filters and middlewares get the context under the same name, and load by `await ctx.load()`; what they load is
    the session that the handler then gets, and what they change is stored also if nobody handles the update.
    Handlers and actions of scenes name it like any other. A handler of errors runs after the failed update has
    ended, and gets a session of its own. The storage is opened at the start of the dispatcher, and closed at its
    shutdown, once the handlers that still run are done.

    The sessions of several managers are locked in the order in which they were set up. Where filters load them, keep
    to that order, or two updates could wait for each other until `lock_timeout`.

    Args:
        dispatcher: the dispatcher; its routers may be included before or after.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the bot's id before each key, as in `42:-1001234`, where several bots share a storage.

    Raises:
        ValueError: handlers get something else under the manager's name already, or another manager that was set up
            has the same keys in the same storage.

    Examples:
        >>> from aiogram import Dispatcher, F
        >>> from aiogram.types import Message
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.aiogram import SessionContext, setup_sessions
        >>> dp = Dispatcher()
        >>> setup_sessions(dp, SessionManager(dict[str, int], storage="memory:"))
        >>> @dp.message(F.text == "/reset")
        ... async def on_reset(message: Message, ctx: SessionContext[dict[str, int]]) -> None:
        ...     ctx.session = None
    """
    if not isinstance(dispatcher, Dispatcher):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass routers
        raise TypeError(f"setup_sessions needs the Dispatcher, not a {type(dispatcher).__name__}; routers share it")
    update = _UpdateMiddleware(sessions, lazy=lazy, per_bot=per_bot)
    update.set_up.check_names(_NAMES_OF_AIOGRAM)
    for other in dispatcher.update.outer_middleware:
        if isinstance(other, _UpdateMiddleware):
            update.set_up.check_beside(cast("_UpdateMiddleware[Any]", other).set_up)
            if sessions.runtime.deduplicate:
                cast("_UpdateMiddleware[Any]", other).innermost = False
    dispatcher.update.outer_middleware(update)
    for name, observer in dispatcher.observers.items():
        if name == "error":
            observer.middleware(_ErrorMiddleware(update))
        elif name != "update":
            observer.middleware(update.serve)

    async def start() -> None:
        await sessions.start()

    async def stop() -> None:
        await sessions.aclose()

    dispatcher.startup.register(start)
    dispatcher.shutdown.register(stop)


class _UpdateMiddleware(BaseMiddleware, Generic[T]):
    """Round the whole update: makes its unit of work, and ends it."""

    def __init__(self, sessions: SessionManager[T], *, lazy: bool, per_bot: bool) -> None:
        self.set_up = SetUp(sessions, lazy=lazy, per_bot=per_bot)
        self.name = self.set_up.name
        self.context_name = self.set_up.context_name
        self.unit_name = f"_chatsession_{self.name}"
        self.innermost = True
        """No sessions that know their updates were set up after these."""
        self._scene_actions = SceneActions({self.name, self.context_name}, self.give)

    async def __call__(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        unit = self.begin(cast("Update", event), data)
        try:
            if unit.moves_chat:
                await unit.follow_chat()
            result = await handler(event, data)
        except (SkipHandler, CancelHandler):  # control flow, not failure
            await unit.finish()
            raise
        except BaseException:
            await unit.abandon()
            raise
        if result is UNHANDLED and not unit.handled:
            await unit.put_aside()
        else:
            await unit.finish()
        return result

    def begin(self, update: Update, data: dict[str, Any]) -> UpdateSession[T]:
        """Put the unit of work of an update, not opened yet, into what handlers get."""
        found: EventContext = data.get("event_context") or UserContextMiddleware.resolve_event_context(update)
        message = update.message
        context = UpdateContext(
            chat_id=found.chat_id,
            user_id=found.user_id,
            thread_id=found.thread_id,
            business_connection_id=found.business_connection_id,
            bot_id=data["bot"].id,
            update=update,
            update_id=update.update_id,
            moved_from=None if message is None else message.migrate_from_chat_id,
            moved_to=None if message is None else message.migrate_to_chat_id,
        )
        unit = self.set_up.begin(context)
        data[self.unit_name] = unit.session
        data[self.context_name] = unit.context
        return unit.session

    async def serve(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        """Run a handler with what it asks for."""
        unit: UpdateSession[T] = data[self.unit_name]
        if (scenes := data.get("scenes")) is not None:
            self._scene_actions.serve(scenes.registry)
        await self.give(named(data["handler"]), data)
        unit.handled = True
        if self.set_up.deduplicates:
            units = data.setdefault(_REMEMBERING, [])
            if unit.asked:
                units.append(unit)
            # If only some of the sessions have seen the update, the others still need their handler.
            if self.innermost and units and all(each.redelivered for each in units):
                return None
        return await handler(event, data)

    async def give(self, names: set[str], data: dict[str, Any]) -> None:
        """Load the session if it is among what somebody names, and put it into what they get."""
        unit: UpdateSession[T] | None = data.get(self.unit_name)
        if unit is None:  # a scene that another dispatcher shares, which has no sessions
            return
        if self.name in names:
            await unit.wanted()
            data[self.name] = unit.holder.data
        elif self.context_name in names:
            await unit.wanted()


class _ErrorMiddleware(BaseMiddleware):
    """Round a handler of errors: the failed update's session has ended without a trace, and this one is new."""

    def __init__(self, update: _UpdateMiddleware[Any]) -> None:
        self._update = update

    async def __call__(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        unit = self._update.begin(cast("ErrorEvent", event).update, data)
        if (scenes := data.get("scenes")) is not None:
            scenes.data = {**scenes.data, **data}
        try:
            result = await self._update.serve(handler, event, data)
        except (SkipHandler, CancelHandler):
            await unit.finish()
            raise
        except BaseException:
            await unit.abandon()
            raise
        await unit.finish()
        return result
