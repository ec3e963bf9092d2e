"""What handlers of pyTelegramBotAPI ask for, and whether its bots have the hooks that this needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

from chatsession._signatures import signature_of
from chatsession.errors import SessionError
from chatsession.integrations.injection import named_sessions
from chatsession.integrations.update_scope import SessionBindings

PLACE = "_chatsession"
"""The attribute of a bot that has what stands before its places."""
NAMES_OF_TELEBOT = frozenset(("data", "bot", "state", "state_context"))


def is_set_up(bot: object) -> bool:
    """Whether a bot was given sessions or states."""
    return PLACE in vars(bot)


class AskedSessions:
    """The sessions that handlers name, looked up once for each handler.

    Args:
        bindings: the managers of the bot.
    """

    def __init__(self, bindings: SessionBindings) -> None:
        self._bindings = bindings
        self._known: WeakKeyDictionary[Callable[..., object], tuple[frozenset[str], inspect.Signature]]
        self._known = WeakKeyDictionary()

    def by(self, function: Callable[..., object]) -> tuple[frozenset[str], inspect.Signature]:
        """The sessions that a handler names, and its signature without them."""
        try:
            known = self._known.get(function)
        except TypeError:  # it can be no key
            return self._look_at(function)
        if known is None:
            known = self._known[function] = self._look_at(function)
        return known

    def clear(self) -> None:
        """Look again, since a manager was added."""
        self._known.clear()

    def _look_at(self, function: Callable[..., object]) -> tuple[frozenset[str], inspect.Signature]:
        self._bindings.check_bound(function)
        names = named_sessions(function, 1, self._bindings.names)
        signature = signature_of(function)
        rest = [each for name, each in signature.parameters.items() if name not in names]
        return names, signature.replace(parameters=rest)


def check_hooks(kind: type, hooks: Mapping[str, Sequence[str]]) -> None:
    """Raises `SessionError` if a class of bots lacks one of these methods, or that one of its parameters."""
    for name, parameters in hooks.items():
        hook = getattr(kind, name, None)
        if hook is None or not set(parameters) <= inspect.signature(hook).parameters.keys():
            raise SessionError(
                f"sessions need pyTelegramBotAPI 4.27 or newer, whose {kind.__name__} has "
                f"{name}({', '.join(parameters)}); upgrade it by pip install 'chatsession[telebot]'"
            )
