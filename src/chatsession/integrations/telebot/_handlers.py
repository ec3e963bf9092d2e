"""What both kinds of bots have in common: their managers, and how their handlers get sessions."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

from telebot import types

from chatsession._signatures import signature_of
from chatsession.errors import SessionError
from chatsession.integrations.injection import named_sessions
from chatsession.integrations.polling.window import RawUpdate
from chatsession.integrations.telebot._ids import context_of
from chatsession.integrations.telebot._methods import methods_of_bot
from chatsession.integrations.update_scope import SessionBinding, SessionBindings, UpdateScope, name_taken

_log = logging.getLogger("chatsession")

ATTRIBUTE = "_chatsession"
"""The attribute of a bot that holds its `BotSessions`."""
_NAMES_OF_TELEBOT = frozenset(("data", "bot", "state", "state_context"))


def is_set_up(bot: object) -> bool:
    """Whether a bot was given sessions or states."""
    return ATTRIBUTE in vars(bot)


class BotSessions:
    """The managers of one bot, and which of them its handlers name.

    Args:
        bot: the bot.
        kind: its class in telebot.
        hooks: the methods of this class that are replaced or called, with the parameters that are relied on.

    Raises:
        SessionError: this pyTelegramBotAPI lacks one of the hooks.
    """

    def __init__(self, bot: object, kind: type, hooks: Mapping[str, Sequence[str]]) -> None:
        _check_hooks(kind, hooks)
        self.bot: Any = bot
        self.bindings: SessionBindings = SessionBindings()
        self._methods = methods_of_bot(bot)
        self._named: WeakKeyDictionary[Callable[..., object], tuple[frozenset[str], inspect.Signature]]
        self._named = WeakKeyDictionary()
        setattr(bot, ATTRIBUTE, self)

    def add(self, binding: SessionBinding[Any]) -> None:
        """Set up a manager."""
        self.bindings.add(binding, _NAMES_OF_TELEBOT)
        self._named.clear()

    def scope_of(self, payload: object, update_id: int | None) -> UpdateScope:
        """The sessions of an update, by what its handlers get."""
        return UpdateScope(self.bindings, context_of(self.bot, payload, update_id, self._methods))

    def named_by(self, handler: Callable[..., object]) -> tuple[frozenset[str], inspect.Signature]:
        """The sessions that a handler names, and its signature without them."""
        try:
            known = self._named.get(handler)
        except TypeError:  # it is not hashable
            return self._examine(handler)
        if known is None:
            known = self._named[handler] = self._examine(handler)
        return known

    def _examine(self, handler: Callable[..., object]) -> tuple[frozenset[str], inspect.Signature]:
        self.bindings.check_bound(handler)
        names = named_sessions(handler, 1, self.bindings.names)
        signature = signature_of(handler)
        rest = [each for name, each in signature.parameters.items() if name not in names]
        return names, signature.replace(parameters=rest)


AnyDispatch = TypeVar("AnyDispatch", bound=BotSessions)


class HandledUpdate(Generic[AnyDispatch]):
    """One update, and the first of its middlewares: gives contexts to the others, and learns how the update ends."""

    update_sensitive = False

    def __init__(self, dispatch: AnyDispatch, scope: UpdateScope) -> None:
        self.dispatch: AnyDispatch = dispatch
        self.scope: UpdateScope = scope
        self.exception: Exception | None = None
        """The error of a handler, which telebot has given to the bot's exception handler."""
        self._data: dict[str, object] = {}

    def give_contexts(self, data: dict[str, object]) -> None:
        """Put the contexts into the dictionary that middlewares and handlers share."""
        self._data = data
        data.update(self.scope.contexts)

    def check_names(self, names: Collection[str]) -> None:
        """Raises `SessionNameError` if a middleware has put something else under one of these names."""
        for name in names:
            if name in self._data and self._data[name] is not self.scope.contexts.get(name):
                raise name_taken(name, self._data, "from a middleware")


AnyUpdate = TypeVar("AnyUpdate", bound=HandledUpdate[Any])


class Handler(Generic[AnyUpdate]):
    """A handler in one update. For telebot it has only those parameters that are not sessions."""

    def __init__(self, update: AnyUpdate, function: Callable[..., Any]) -> None:
        self._update = update
        self._function = function

    def __repr__(self) -> str:
        return repr(self._function)  # for telebot's messages

    @property
    def __signature__(self) -> inspect.Signature:
        return self._update.dispatch.named_by(self._function)[1]


def parsed(updates: Iterable[RawUpdate]) -> list[types.Update]:
    """The updates as telebot's objects, without those that it cannot read."""
    readable: list[types.Update] = []
    for update in updates:
        try:
            readable.append(cast("Any", types.Update).de_json(update))
        except Exception:
            _log.exception("update %d cannot be read", update["update_id"])
    return readable


def _check_hooks(kind: type, hooks: Mapping[str, Sequence[str]]) -> None:
    for name, parameters in hooks.items():
        hook = getattr(kind, name, None)
        if hook is None or not set(parameters) <= inspect.signature(hook).parameters.keys():
            raise SessionError(
                f"sessions need pyTelegramBotAPI 4.27 or newer, whose {kind.__name__} has "
                f"{name}({', '.join(parameters)}); upgrade it by pip install 'chatsession[telebot]'"
            )
