"""The places of one dispatcher where updates begin and end, and where their handlers are called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from weakref import ref

from aiogram import BaseMiddleware, Bot, Dispatcher
from aiogram.dispatcher.event.bases import UNHANDLED
from aiogram.dispatcher.event.handler import HandlerObject
from aiogram.types import ErrorEvent, TelegramObject, Update

from chatsession.integrations.aiogram._fsm import CONTROL_FLOW, SessionFSMStorage
from chatsession.integrations.aiogram._handlers import SessionCallback, serve_handler
from chatsession.integrations.aiogram._ids import context_of
from chatsession.integrations.aiogram._methods import AiogramMethods
from chatsession.integrations.aiogram._scenes import serve_actions
from chatsession.integrations.injection import run_as_unit
from chatsession.integrations.polling.delivery import note_undone
from chatsession.integrations.update_scope import SessionBindings, UpdateScope

_Next = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]


def middleware_of(dispatcher: Dispatcher) -> UpdateMiddleware:
    """The one middleware of a dispatcher that owns the sessions of its updates."""
    for middleware in dispatcher.update.outer_middleware:
        if isinstance(middleware, UpdateMiddleware):
            return middleware
    middleware = UpdateMiddleware()
    dispatcher.update.outer_middleware(middleware)
    dispatcher.errors.middleware(_ErrorMiddleware(middleware))
    middleware.serve_observers(dispatcher)

    async def start(**data: Any) -> None:
        middleware.bindings.check_given(data, "from the dispatcher's data, or a keyword of start_polling()")
        middleware.serve_observers(dispatcher)
        await middleware.bindings.start()

    async def stop() -> None:
        await middleware.bindings.release()

    dispatcher.startup.register(start)
    dispatcher.shutdown.register(stop)
    return middleware


class UpdateMiddleware(BaseMiddleware):
    """Around the whole update: begins its scope, and ends it."""

    def __init__(self) -> None:
        self.bindings = SessionBindings()
        self._methods: AiogramMethods | None = None

    async def __call__(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        if not self.bindings.names.isdisjoint(data):
            self.bindings.check_given(data, "from the dispatcher's data, a keyword of feed_update() or a middleware")
        storage = data.get("fsm_storage")
        states = storage.current() if isinstance(storage, SessionFSMStorage) else None
        scope = self.begin(cast("Update", event), data)
        if states is not None:
            states.join(scope)
        try:
            if scope.context.moves_chat:
                await scope.follow_chat()
            result = await handler(event, data)
        except CONTROL_FLOW:  # no failure
            scope.handled = True
            await scope.commit()
            raise
        except BaseException:
            await scope.abort()
            raise
        if result is not UNHANDLED:
            scope.handled = True
        await scope.commit()
        return result

    def begin(self, update: Update, data: dict[str, Any]) -> UpdateScope:
        """Put the sessions of an update, none opened yet, into what handlers get."""
        bot: Bot = data["bot"]
        if self._methods is None or self._methods.bot is not bot:  # mostly there is one bot
            self._methods = AiogramMethods(bot)
        scope = UpdateScope(self.bindings, context_of(update, data, self._methods))
        # What handlers are given leads back to the scope, in whatever task they run; aiogram copies it at ten places,
        # so that an entry more would cost more than this.
        reference = ref(scope)
        for session in scope.sessions:
            session.scope = reference
        data.update(scope.contexts)
        return scope

    def serve_observers(self, dispatcher: Dispatcher) -> None:
        """Be where handlers are chosen, also for kinds of updates that a library has added, as aiogram-dialog does."""
        own = dispatcher.observers.keys()
        for router in dispatcher.chain_tail:
            for name, observer in router.observers.items():
                inherited = router is not dispatcher and name in own
                if not inherited and name not in ("update", "error") and self.serve not in observer.middleware:
                    observer.middleware(self.serve)

    def serve(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Awaitable[Any]:
        """Let the handler that was chosen get its sessions, once all middlewares have let the update through."""
        chosen: HandlerObject = data["handler"]
        if type(chosen.callback) is not SessionCallback:
            serve_handler(chosen, self.bindings)
        if (scenes := data.get("scenes")) is not None:
            serve_actions(scenes.registry)
        return handler(event, data)


class _ErrorMiddleware(BaseMiddleware):
    """Around a handler of errors: the scope of the failed update was aborted, and this one is new."""

    def __init__(self, update: UpdateMiddleware) -> None:
        self._update = update

    async def __call__(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        note_undone(cast("ErrorEvent", event).exception)
        scope = self._update.begin(cast("ErrorEvent", event).update, data)
        if (scenes := data.get("scenes")) is not None:
            scenes.data = {**scenes.data, **data}
        return await run_as_unit(scope, lambda: self._update.serve(handler, event, data), CONTROL_FLOW)
