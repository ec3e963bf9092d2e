"""aiogram's method objects, such as `message.answer("…")` without `await`, for `after_commit`."""

from __future__ import annotations

from typing import Any, cast

from aiogram import Bot, methods
from aiogram.client.default import Default
from aiogram.exceptions import (
    TelegramAPIError,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)
from aiogram.methods import TelegramMethod

from chatsession.actions import Arguments, RefusedError, RetryLaterError, UnknownActionError, UnreachableError
from chatsession.errors import SessionActionError


class AiogramMethods:
    """The methods of one bot.

    Args:
        bot: calls them.
    """

    __slots__ = ("bot", "bot_id")

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self.bot_id: int = bot.id

    def encode(self, action: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """See `Methods.encode`."""
        method = self._method(action, args, kwargs)
        prepare, files = self.bot.session.prepare_value, dict[str, Any]()
        fields: dict[str, Any] = {}
        for name, value in method:
            # The bot's defaults are left to be the defaults of the bot that sends it.
            if value is not None and not isinstance(value, Default):
                fields[name] = (
                    value if type(value) in _PLAIN else prepare(value, bot=self.bot, files=files, _dumps_json=False)
                )
        if files:
            raise SessionActionError(
                f"a file to upload cannot be stored with {method.__api_method__}; give its file_id or URL, or "
                "register a function that sends it"
            )
        return method.__api_method__, [], fields

    def describe(self, action: object) -> str:
        """See `Methods.describe`."""
        method = _as_method(action)
        return str(action) if method is None else method.__api_method__

    async def call(self, action: object, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> None:
        """See `Methods.call`."""
        method = _as_method(action)
        if method is None:
            found = _class_of(action)
            if found is None:
                raise UnknownActionError(f"aiogram has no method {action!r}")
            method = found(**kwargs)
        await self.bot(method)

    def translate(self, error: Exception, /) -> Exception:
        """See `Methods.translate`."""
        if isinstance(error, TelegramRetryAfter):
            return RetryLaterError(error.retry_after)
        if isinstance(error, TelegramServerError | TelegramNetworkError):
            return UnreachableError(str(error))
        return RefusedError(str(error)) if isinstance(error, TelegramAPIError) else error

    def _method(self, action: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TelegramMethod[Any]:
        method = _as_method(action)
        if method is not None:
            if args or kwargs:
                raise SessionActionError("a method of aiogram has its arguments already; pass it alone")
            return method
        found = _class_of(action)
        if found is None or args:
            raise SessionActionError(
                "after_commit takes a method of aiogram, as in after_commit(message.answer('…')) without await, or a "
                f"registered function, not {_described(action)}"
            )
        return found(**kwargs)


_PLAIN = frozenset((str, int, bool, float))


def _class_of(name: object) -> type[TelegramMethod[Any]] | None:
    if not isinstance(name, str):
        return None
    found: object = getattr(methods, name[:1].upper() + name[1:], None)
    if isinstance(found, type) and issubclass(found, TelegramMethod):
        return cast("type[TelegramMethod[Any]]", found)
    return None


def _as_method(action: object) -> TelegramMethod[Any] | None:
    return cast("TelegramMethod[Any]", action) if isinstance(action, TelegramMethod) else None


def _described(action: object) -> str:
    return repr(action) if isinstance(action, str) else f"a {type(action).__name__}"
