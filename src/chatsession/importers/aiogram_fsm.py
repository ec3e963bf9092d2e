"""aiogram's FSM in Redis: the data and the state that `RedisStorage` keeps; aiogram need not be installed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from chatsession.errors import shown
from chatsession.importers._entries import Entry, is_id
from chatsession.importers._redis import Source, client_of, literal, names_of, strings_of

__all__ = ["DefaultKeys", "KeyBuilder", "entries"]


class KeyBuilder(Protocol):
    """What aiogram's `DefaultKeyBuilder` says about its keys."""

    prefix: str
    separator: str
    with_bot_id: bool
    with_business_connection_id: bool
    with_destiny: bool


@dataclass
class DefaultKeys:
    """The settings of a `DefaultKeyBuilder`, with aiogram's defaults; its own object will do as well."""

    prefix: str = "fsm"
    separator: str = ":"
    with_bot_id: bool = False
    with_business_connection_id: bool = False
    with_destiny: bool = False


async def entries(redis: Source, *, key_builder: KeyBuilder | None = None) -> AsyncGenerator[Entry]:
    """Read the FSM data of all chats and users.

    Each entry has the ids that were in its key, the `data`, the `state` as text, and the `destiny`. aiogram's default
    is data for each user in each chat, which become sessions `per_user_in_chat`; for sessions `per_chat` a `key=` or
    `convert=` must choose among a group's users. A state is kept by `convert=` only.

    Args:
        redis: the URL, or a client of redis-py (for a cluster, or sentinels), which stays open.
        key_builder: the one that was given to `RedisStorage`, or `DefaultKeys`.

    Raises:
        StorageUnavailableError: Redis does not answer.
    """
    keys = key_builder or DefaultKeys()
    start = literal(keys.prefix + keys.separator)
    async with client_of(redis) as client:
        async for name, data, state in _with_other(client, start, keys, "data", "state"):
            if data is not None:
                yield _entry(name, "data", data, state, keys)
        async for name, state, data in _with_other(client, start, keys, "state", "data"):
            if data is None and state is not None:
                yield _entry(name, "state", b"{}", state, keys)


async def _with_other(
    client: Any, start: bytes, keys: KeyBuilder, part: str, other: str
) -> AsyncGenerator[tuple[bytes, bytes | None, bytes | None]]:
    """The keys of a part, each with what it holds and what the other part of the same conversation holds."""
    async for page in names_of(client, start + b"*" + literal(keys.separator + part)):
        others = [name.removesuffix(part.encode()) + other.encode() for name in page]
        found = await strings_of(client, [*page, *others])
        for name, here, there in zip(page, found, found[len(page) :], strict=False):
            yield name, here, there


def _entry(name: bytes, part: str, data: bytes, state: bytes | None, keys: KeyBuilder) -> Entry:
    text = name.decode(errors="replace")
    origin = shown(text)
    ids = ids_of(text, part, keys)
    if ids is None:
        return Entry(origin=origin, kind="fsm", problem="its key is not of the form that key_builder says")
    try:
        return Entry(origin=origin, kind="fsm", data=msgspec.json.decode(data), state=_text(state), **ids)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Entry(origin=origin, kind="fsm", problem="its data is not JSON")


def ids_of(name: str, part: str, keys: KeyBuilder) -> dict[str, Any] | None:
    """What is in a key: `prefix:[bot:][business connection:]chat:[topic:]user:[destiny:][part]`."""
    start, end = keys.prefix + keys.separator, keys.separator + part if part else ""
    if not name.startswith(start) or not name.endswith(end):
        return None
    inner = name[len(start) : len(name) - len(end)]
    left = inner.split(keys.separator)
    ids: dict[str, Any] = {}
    if keys.with_bot_id:
        if not is_id(left[0]):
            return None
        ids["bot_id"] = int(left.pop(0))
    if keys.with_business_connection_id and left and not is_id(left[0]):
        ids["business_connection_id"] = left.pop(0)
    after = 1 if keys.with_destiny else 0
    numbers = 3 if len(left) >= 3 + after and all(map(is_id, left[:3])) else 2
    if len(left) < numbers + after or not all(map(is_id, left[:numbers])):
        return None
    chat, *topic, user = map(int, left[:numbers])
    ids |= {"chat_id": chat, "user_id": user, "thread_id": topic[0] if topic else None}
    rest = keys.separator.join(left[numbers:])
    if keys.with_destiny:
        ids["destiny"] = rest
    elif len(left) > numbers:
        return None
    return ids


def _text(state: bytes | None) -> str | None:
    return None if state is None else state.decode()
