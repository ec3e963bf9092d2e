"""aiogram's FSM in Redis: the data and the state that `RedisStorage` keeps; aiogram need not be installed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from chatsession.errors import shown
from chatsession.importers._aiogram_keys import DefaultKeys, KeyBuilder, ids_of
from chatsession.importers._entries import Entry
from chatsession.importers._redis import Source, client_of, literal, names_of, strings_of

__all__ = ["DefaultKeys", "KeyBuilder", "entries"]


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


def _text(state: bytes | None) -> str | None:
    return None if state is None else state.decode()
