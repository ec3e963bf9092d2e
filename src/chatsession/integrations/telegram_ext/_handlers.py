"""Handlers that use sessions or `bot_data` have them loaded before they run; all others wait for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from telegram.ext import BaseHandler, ConversationHandler

from chatsession.integrations.telegram_ext._conversations import handlers_in
from chatsession.integrations.telegram_ext._scope import Scope, running
from chatsession.integrations.telegram_ext._usage import Usage, usage_of

AnyHandler = BaseHandler[Any, Any, Any]

if TYPE_CHECKING:
    _Handler = AnyHandler
    _Conversation = ConversationHandler[Any]
else:
    _Handler = _Conversation = object


class ServedHandler(_Handler):
    """Comes before the class of a handler: loads what the handler uses of an update."""

    __slots__ = ()
    known: ClassVar[tuple[object, Usage]]
    """A callback, and what it uses of its context."""

    def handle_update(self, update: Any, application: Any, check_result: Any, context: Any) -> Any:
        scope = running.get()
        if scope is None:
            return super().handle_update(update, application, check_result, context)
        if self.known[0] is not self.callback:  # it has got another one meanwhile
            serve_handler(self, cast("Any", type(context)))
        uses = self.known[1]
        if uses.sessions(scope.served.bindings):
            scope.wanted = True  # said now: a handler that does not block runs later, those of later groups before it
        handling = self._load_and_handle(scope, uses, update, application, check_result, context)
        handling.__name__ = "handle_update"  # which error handlers see as `context.coroutine`
        return handling

    async def _load_and_handle(
        self, scope: Scope, uses: Usage, update: Any, application: Any, check_result: Any, context: Any
    ) -> object:
        await scope.open_for_handler()
        if scope.redelivered:
            return None
        await scope.load_bot_data(uses)
        return await super().handle_update(update, application, check_result, context)


class ServedConversation(_Conversation):
    """Comes before the class of a conversation, in which each handler counts by itself."""

    __slots__ = ()

    async def handle_update(self, update: Any, application: Any, check_result: Any, context: Any) -> Any:
        serve_handler(check_result[2], cast("Any", type(context)))  # it may have been put inside meanwhile
        return await super().handle_update(update, application, check_result, context)


def serve_handler(handler: object, context_class: type[Any]) -> None:
    """Let a handler, and those inside of it, have loaded what they use.

    Args:
        handler: of an application.
        context_class: of its contexts.
    """
    for each in handlers_in(handler):
        if isinstance(each, ConversationHandler):
            if not isinstance(each, ServedConversation):
                _put_before(each, ServedConversation)
        elif not isinstance(each, ServedHandler) or each.known[0] is not each.callback:
            _put_before(each, ServedHandler, known=(each.callback, _usage_of(each, context_class)))


def _usage_of(handler: AnyHandler, context_class: type[Any]) -> Usage:
    uses, given = usage_of(handler.callback, 1, context_class), _class_of(handler)
    if given.handle_update is cast("Any", BaseHandler).handle_update and given.__module__.startswith("telegram."):
        return uses
    # A class of the application's own need not leave the context to the callback.
    return Usage(None, uses.bot_data or usage_of(given, 1, context_class).bot_data)


def _class_of(handler: Any) -> type[Any]:
    """The class of a handler as it was made."""
    kinds: tuple[type[Any], ...] = type(handler).__mro__
    return next(kind for kind in kinds if not issubclass(kind, (ServedHandler, ServedConversation)))


def _put_before(handler: Any, first: type[Any], **values: object) -> None:
    """Give a handler a class in which another one comes before its own; it has no dictionary for a method."""
    given = _class_of(handler)
    names = {"__slots__": (), "__module__": given.__module__, "__qualname__": given.__qualname__}
    handler.__class__ = type(given.__name__, (first, given), {**names, **values})
