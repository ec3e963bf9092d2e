"""Methods of pyTelegramBotAPI's bots, for `after_commit`."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import aiohttp
import requests
from telebot import TeleBot, apihelper, asyncio_helper, types

from chatsession.actions import RefusedError, RetryLaterError, UnreachableError
from chatsession.integrations._named_methods import NamedMethods

_OBJECT = "telebot:json"
_UNREACHABLE = (
    asyncio_helper.RequestTimeout,
    asyncio_helper.ApiException,
    apihelper.ApiException,
    aiohttp.ClientError,
    requests.RequestException,
    TimeoutError,
)
_UPLOADS = (types.InputMedia, types.InputPaidMedia, types.InputSticker, types.InputFile)


def methods_of_bot(bot: object) -> NamedMethods:
    """The methods of one bot; `after_commit("send_message", chat_id, "…")`."""
    if isinstance(bot, TeleBot):
        return NamedMethods(bot, translated, _encoded, _decoded, asyncio.to_thread)
    return NamedMethods(bot, translated, _encoded, _decoded)


def translated(error: Exception) -> Exception:
    """See `Methods.translate`."""
    if isinstance(error, asyncio_helper.ApiTelegramException | apihelper.ApiTelegramException):
        answer: dict[str, Any] = cast("Any", error).result_json
        if answer["error_code"] == 429:
            return RetryLaterError(answer.get("parameters", {}).get("retry_after", 1))
        told = f"{answer['error_code']} {answer['description']}"
        return UnreachableError(told) if answer["error_code"] >= 500 else RefusedError(told)
    if isinstance(error, _UNREACHABLE):
        return UnreachableError(type(error).__name__)  # their texts have the request in them
    return error


class _Stored(types.JsonSerializable, types.Dictionaryable):
    """A stored object of telebot, such as a keyboard. Its methods send such objects as JSON."""

    def __init__(self, stored: str) -> None:
        self._stored = stored

    def to_json(self) -> str:
        return self._stored

    def to_dict(self) -> Any:
        return json.loads(self._stored)


def _encoded(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, types.MessageEntity):
        return cast("Any", value).to_dict()  # telebot takes a list of these as well
    if isinstance(value, types.JsonSerializable) and not isinstance(value, _UPLOADS):
        return {_OBJECT: cast("Any", value).to_json()}
    if isinstance(value, list | tuple):
        return [_encoded(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {str(name): _encoded(each) for name, each in cast("dict[Any, Any]", value).items()}
    raise TypeError(f"a {type(value).__name__} is not JSON; for a file, give its file_id or URL")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if fields.keys() == {_OBJECT}:
        return _Stored(fields[_OBJECT])
    return {name: _decoded(each) for name, each in fields.items()}
