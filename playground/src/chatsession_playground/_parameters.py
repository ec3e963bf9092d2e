"""Parameters of a call, however a framework sends them: query, form, multipart or JSON."""

import json
from collections.abc import AsyncIterable, Callable, Mapping
from typing import cast
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, ClientResponse, MultipartReader, web

from ._errors import bad_request
from ._updates import JsonObject

_INTEGERS = frozenset(
    [
        "cache_time",
        "chat_id",
        "limit",
        "max_connections",
        "message_id",
        "message_thread_id",
        "offset",
        "reply_to_message_id",
        "timeout",
        "until_date",
        "user_id",
    ]
)
_FLAGS = frozenset(
    [
        "allow_sending_without_reply",
        "disable_notification",
        "disable_web_page_preview",
        "drop_pending_updates",
        "is_big",
        "is_personal",
        "protect_content",
        "show_alert",
        "use_independent_chat_permissions",
    ]
)
_OBJECTS = frozenset(
    [
        "allowed_updates",
        "button",
        "commands",
        "entities",
        "link_preview_options",
        "permissions",
        "reaction",
        "reply_markup",
        "reply_parameters",
        "results",
        "scope",
    ]
)


async def read_request(request: web.Request) -> JsonObject:
    """The parameters of a call by HTTP.

    Returns:
        Name → value, with numbers, flags and objects decoded.

    Raises:
        ApiError: the body or a parameter cannot be read.
    """
    params: dict[str, object] = dict(request.query)
    if request.content_type == "application/json":
        params |= _json_object(await request.read())
    elif request.content_type == "application/x-www-form-urlencoded":
        params |= dict(parse_qsl(await request.text(), keep_blank_values=True))
    elif request.content_type.startswith("multipart/"):
        params |= await _multipart(await request.multipart())
    return decode(params)


async def read_answer(response: ClientResponse) -> tuple[str, JsonObject]:
    """The call that a bot may make by answering an update at its webhook.

    Returns:
        Method and parameters; the method is empty if the bot asks for nothing.
    """
    params: dict[str, object] = {}
    if response.content_type == "application/json":
        params = _json_object(await response.read())
    elif response.content_type.startswith("multipart/"):
        params = await _multipart(MultipartReader.from_response(response))
    return str(params.pop("method", "")), decode(params)


def decode(params: Mapping[str, object]) -> JsonObject:
    """Give parameters that arrived as text the type they have in the Bot API.

    Raises:
        ApiError: a parameter is not of its type.
    """
    return {name: _decoder(name)(name, value) for name, value in params.items() if value is not None}


def _decoder(name: str) -> Callable[[str, object], object]:
    if name in _INTEGERS:
        return _integer
    if name in _FLAGS:
        return _flag
    if name in _OBJECTS:
        return _object
    return lambda _name, value: value


def _integer(name: str, value: object) -> object:
    if name == "chat_id" and isinstance(value, str) and not value.lstrip("-").isdigit():
        return value  # @username
    try:
        return int(cast("str", value))
    except (TypeError, ValueError):
        raise bad_request(f"parameter {name} must be an integer") from None


def _flag(_name: str, value: object) -> object:
    return value.lower() in ("true", "yes", "1") if isinstance(value, str) else bool(value)


def _object(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise bad_request(f"can't parse {name} JSON object") from None


async def _multipart(parts: AsyncIterable[object]) -> dict[str, object]:
    """The parts by name; of a file, its name."""
    return {
        part.name: part.filename or await part.text()
        async for part in parts
        if isinstance(part, BodyPartReader) and part.name
    }


def _json_object(body: bytes) -> JsonObject:
    try:
        value: object = json.loads(body or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise bad_request("can't parse request JSON object")
    return cast("JsonObject", value)
