"""aiogram's handlers are given their sessions as the last step before they are called."""

from __future__ import annotations

import asyncio
from functools import partial, update_wrapper
from typing import Any, NamedTuple

from aiogram.dispatcher.event.handler import CallableObject, HandlerObject
from aiogram.fsm.scene import SceneHandlerWrapper
from aiogram.types import ErrorEvent, TelegramObject

from chatsession.integrations.aiogram._fsm import CONTROL_FLOW
from chatsession.integrations.signatures import first_parameters, mentioned_by, parameters_behind
from chatsession.integrations.states.unit import current_unit
from chatsession.integrations.update_scope import SessionBindings, UpdateScope
from chatsession.integrations.update_session import scope_in


def serve_handler(handler: HandlerObject, bindings: SessionBindings) -> None:
    """Let a handler get the sessions that it names, from this call on.

    Args:
        handler: the handler.
        bindings: of its dispatcher; nobody else may give it anything under their names.

    Raises:
        SessionNameError: `functools.partial` does so.
    """
    bindings.check_bound(handler.callback)
    handler.callback = SessionCallback(handler, bindings)
    handler.awaitable = True  # a handler that is not runs in a thread of its own all the same
    handler.params = {*handler.params, *bindings.names}


class Wanted(NamedTuple):
    """What a handler wants to be given."""

    parameters: frozenset[str]
    """Of the handler, and of what a decorator hides behind `**kwargs`."""
    mentioned: frozenset[str] = frozenset()
    """Strings in the code of a handler with `**kwargs`, and of a class-based one, such as `self.data["session"]`."""


def wanted_by(wanted: CallableObject, given: int = 1) -> Wanted:
    """What a function or a class wants to be given, beside its first parameters, which aiogram fills."""
    own = frozenset(wanted.params) - first_parameters(wanted.callback, given)
    if not wanted.varkw:
        return Wanted(own)
    return Wanted(own | parameters_behind(wanted.callback, given), mentioned_by(wanted.callback))


class SessionCallback:
    """Stands for the callback of a handler: loads the sessions that this one names, and calls it.

    This is no middleware, so that none waits while the chat is locked, wherever and whenever it was registered.

    Args:
        handler: as it was registered.
        bindings: of its dispatcher.
    """

    def __init__(self, handler: HandlerObject, bindings: SessionBindings) -> None:
        self._bindings = bindings
        callback, names = handler.callback, bindings.names
        self._call = callback if handler.awaitable else partial(asyncio.to_thread, callback)
        given = 2 if isinstance(callback, SceneHandlerWrapper) else 1  # the scene and the event
        called = callback.handler if isinstance(callback, SceneHandlerWrapper) else handler
        self._wanted = wanted_by(called, given)
        self._unnamed = names & first_parameters(called.callback, given)
        if not handler.varkw:
            self._unnamed |= names.difference(handler.params)
        update_wrapper(self, callback, updated=())

    async def __call__(self, event: TelegramObject, **data: Any) -> Any:
        bindings = self._bindings
        # A handler of errors may be the one that reports this very error.
        names = bindings.names & self._wanted.parameters if type(event) is ErrorEvent else bindings.names
        bindings.check_given(data, "from a middleware or filter", names)
        scope = scope_in(data) or _scope_of_states()
        if scope is not None:  # else somebody feeds the dispatcher's routers past it
            data.update(await scope.load(self._wanted.parameters, self._wanted.mentioned))
            scope.handled = True
            if scope.redelivered:
                return None
        for name in self._unnamed:
            data.pop(name, None)
        try:
            return await self._call(event, **data)
        except CONTROL_FLOW:
            raise
        except BaseException:
            if scope is not None:
                await scope.roll_back()  # a middleware may catch the error
            raise


def _scope_of_states() -> UpdateScope | None:
    """That of an update whose dispatcher has states and no sessions."""
    unit = current_unit.get()
    return None if unit is None else unit.scope
