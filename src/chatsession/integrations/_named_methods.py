"""Methods of a bot by their name, for `after_commit` in frameworks whose method calls are no objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chatsession.actions import Arguments, UnknownActionError
from chatsession.errors import SessionActionError


async def _call(method: Callable[..., Awaitable[object]], *args: Any, **kwargs: Any) -> object:
    return await method(*args, **kwargs)


class NamedMethods:
    """The methods of one bot.

    Args:
        bot: the object whose methods they are.
        translate: tells what an error of the framework means, as `Methods.translate`.
        encode: an argument as JSON has it; raises `TypeError` if it cannot be stored.
        decode: the argument for the method, of what `encode` made.
        run: calls a method; `asyncio.to_thread` where methods block.
    """

    def __init__(
        self,
        bot: object,
        translate: Callable[[Exception], Exception],
        encode: Callable[[Any], Any] = lambda value: value,
        decode: Callable[[Any], Any] = lambda value: value,
        run: Callable[..., Awaitable[object]] = _call,
    ) -> None:
        self.translate = translate
        self._bot = bot
        self._encode = encode
        self._decode = decode
        self._run = run

    def encode(self, action: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """See `Methods.encode`."""
        name = self._checked(action)
        try:
            positional = [self._encode(value) for value in args]
            keywords = {parameter: self._encode(value) for parameter, value in kwargs.items() if value is not None}
        except TypeError as error:
            raise SessionActionError(f"the call of {name} cannot be stored: {error}") from None
        return name, positional, keywords

    def describe(self, action: object) -> str:
        """See `Methods.describe`."""
        return str(action)

    async def call(self, action: object, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> None:
        """See `Methods.call`."""
        method = self._method(action)
        if method is None:
            raise UnknownActionError(f"the bot has no method {action!r} any more")
        await self._run(
            method,
            *[self._decode(value) for value in args],
            **{name: self._decode(value) for name, value in kwargs.items()},
        )

    def _checked(self, action: object) -> str:
        if not isinstance(action, str):
            raise SessionActionError(
                f"after_commit takes the name of a method, as in after_commit('send_message', …), not a "
                f"{type(action).__name__}"
            )
        if self._method(action) is None:
            raise SessionActionError(f"the bot has no method {action!r}, and no such function is registered")
        return action

    def _method(self, action: object) -> Callable[..., Any] | None:
        if not isinstance(action, str) or action.startswith("_"):
            return None
        method = getattr(self._bot, action, None)
        return method if callable(method) else None
