"""Handlers that use the session have it opened before they run; all others wait for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from telegram.ext import BaseHandler, ConversationHandler

from chatsession.integrations.telegram_ext._shared_scope import SharedScope, shared_scope
from chatsession.integrations.telegram_ext._usage import Attributes, attributes_used

AnyHandler = BaseHandler[Any, Any, Any]

if TYPE_CHECKING:
    _Handler = AnyHandler
    _Conversation = ConversationHandler[Any]
else:
    _Handler = _Conversation = object


class ServedHandler(_Handler):
    """Comes before the class of a handler: opens the sessions of an update if the handler uses them."""

    __slots__ = ()
    known: ClassVar[tuple[object, Attributes]]
    """A callback, and the attributes of its context that it uses."""

    def handle_update(self, update: Any, application: Any, check_result: Any, context: Any) -> Any:
        shared = shared_scope.get()
        if shared is None:
            return super().handle_update(update, application, check_result, context)
        callback, attributes = self.known
        if shared.needs_sessions(attributes if self.callback is callback else None):
            shared.wanted = True  # said now: a handler that does not block runs later, those of later groups before it
        handling = self._open_and_handle(shared, update, application, check_result, context)
        handling.__name__ = "handle_update"  # which error handlers see as `context.coroutine`
        return handling

    async def _open_and_handle(
        self, shared: SharedScope, update: Any, application: Any, check_result: Any, context: Any
    ) -> object:
        await shared.let_others_begin()
        if shared.wanted:
            await shared.open()
        if shared.redelivered:
            return None
        return await super().handle_update(update, application, check_result, context)


class ServedConversation(_Conversation):
    """Comes before the class of a conversation, in which each handler counts by itself."""

    __slots__ = ()

    async def handle_update(self, update: Any, application: Any, check_result: Any, context: Any) -> Any:
        chosen: AnyHandler = check_result[2]
        if not isinstance(chosen, (ServedHandler, ServedConversation)):  # it was put inside meanwhile
            serve_handler(chosen, cast("Any", type(context)))
        return await super().handle_update(update, application, check_result, context)


def serve_handler(handler: Any, context_class: type[Any]) -> None:
    """Let a handler, and those inside of it, open the sessions that they use.

    Args:
        handler: of an application.
        context_class: of its contexts.
    """
    if isinstance(handler, ConversationHandler):
        conversation = cast("ConversationHandler[Any]", handler)
        if not isinstance(handler, ServedConversation):
            _put_before(conversation, ServedConversation)
        inside = [*conversation.entry_points, *conversation.fallbacks]
        for handlers in conversation.states.values():
            inside += handlers
        for each in inside:
            serve_handler(each, context_class)
    elif not isinstance(handler, ServedHandler) or handler.known[0] is not handler.callback:
        attributes = attributes_used(handler.callback, 1, context_class) if _only_calls_back(handler) else None
        _put_before(handler, ServedHandler, known=(handler.callback, attributes))


def _only_calls_back(handler: Any) -> bool:
    """Whether it is the callback alone that gets the context. Others may have a `handle_update` of their own."""
    given = _class_of(handler)
    return given.handle_update is cast("Any", BaseHandler).handle_update and given.__module__.startswith("telegram.")


def _class_of(handler: Any) -> type[Any]:
    """The class of a handler as it was made."""
    kinds: tuple[type[Any], ...] = type(handler).__mro__
    return next(kind for kind in kinds if not issubclass(kind, (ServedHandler, ServedConversation)))


def _put_before(handler: Any, first: type[Any], **values: object) -> None:
    """Give a handler a class in which another one comes before its own; it has no dictionary for a method."""
    given = _class_of(handler)
    names = {"__slots__": (), "__module__": given.__module__, "__qualname__": given.__qualname__}
    handler.__class__ = type(given.__name__, (first, given), {**names, **values})
