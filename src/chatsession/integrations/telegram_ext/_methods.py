"""Methods of python-telegram-bot's bot, for `after_commit`."""

from __future__ import annotations

import datetime
from enum import Enum
from typing import Any, cast

from telegram import Bot, TelegramObject
from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError

from chatsession.actions import RefusedError, RetryLaterError, UnreachableError
from chatsession.integrations._named_methods import NamedMethods


def methods_of_bot(bot: Bot) -> NamedMethods:
    """The methods of one bot; `after_commit("send_message", chat_id, "…")`."""
    return NamedMethods(bot, translated, _encoded)


def translated(error: Exception) -> Exception:
    """See `Methods.translate`."""
    if isinstance(error, RetryAfter):
        wait = error.retry_after
        return RetryLaterError(wait.total_seconds() if isinstance(wait, datetime.timedelta) else wait)
    if isinstance(error, NetworkError) and not isinstance(error, BadRequest):
        return UnreachableError(str(error))
    return RefusedError(str(error)) if isinstance(error, TelegramError) else error


def _encoded(value: Any) -> Any:
    """An argument as JSON; python-telegram-bot takes its objects as dictionaries, too."""
    if value is None or isinstance(value, str | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, TelegramObject):
        return value.to_dict()
    if isinstance(value, datetime.datetime):
        return int(value.timestamp())
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, list | tuple):
        return [_encoded(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {str(name): _encoded(each) for name, each in cast("dict[Any, Any]", value).items()}
    raise TypeError(f"a {type(value).__name__} is not JSON; for a file, give its file_id or URL")
