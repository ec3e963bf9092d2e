"""The states of pyTelegramBotAPI: what its `StatePickleStorage` and `StateRedisStorage` keep, async or not.

Nothing in a pickle is executed or imported, and pyTelegramBotAPI need not be installed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chatsession.errors import SessionError, shown
from chatsession.importers._entries import Entry, is_id
from chatsession.importers._pickles import Plain
from chatsession.importers._unpickling import PickleError, load, pairs_of, reading

if TYPE_CHECKING:
    from chatsession.importers._redis import Source

__all__ = ["pickle_entries", "redis_entries"]

_FOREIGN = "its key is not of the form that prefix and separator say"


async def pickle_entries(
    path: str | os.PathLike[str],
    *,
    prefix: str = "telebot",
    separator: str = ":",
    allow: Sequence[str] = (),
) -> AsyncGenerator[Entry]:
    """Read the file of a `StatePickleStorage`. Stop the old bot first, which writes it in place.

    Each entry has the ids that were in its key, the `data` and the `state`.

    Args:
        path: the `file_path` of the storage.
        prefix: as given to the storage.
        separator: as given to the storage.
        allow: patterns of class names whose objects become dicts of their attributes, as in `"myapp.models.*"`.

    Raises:
        SessionError: the file cannot be read, or is not what a `StatePickleStorage` writes.
    """
    plain = Plain(allow)
    for name, record in await asyncio.to_thread(_read, Path(path)):
        yield _of_pickle(name, record, plain, prefix, separator)


async def redis_entries(redis: Source, *, prefix: str = "telebot", separator: str = ":") -> AsyncGenerator[Entry]:
    """Read what a `StateRedisStorage` keeps in Redis; entries as `pickle_entries` has them.

    Args:
        redis: the URL, or a client of redis-py, which stays open.
        prefix: as given to the storage.
        separator: as given to the storage.

    Raises:
        StorageUnavailableError: Redis does not answer.
    """
    from chatsession.importers._redis import client_of, hashes_of, literal, names_of  # needs redis-py

    async with client_of(redis) as client:
        async for page in names_of(client, literal(prefix + separator) + b"*"):
            for name, fields in zip(page, await hashes_of(client, page, ("state", "data")), strict=True):
                if fields is not None:
                    state, data = fields
                    yield _of_redis(name.decode(errors="replace"), state, data, prefix, separator)


def _read(path: Path) -> list[tuple[Any, Any]]:
    with reading(path):
        pairs = pairs_of(load(path))
    if pairs is None:
        raise SessionError(f"the file {shown(path.name)} is not what a StatePickleStorage writes")
    return pairs


def _of_pickle(name: object, record: object, plain: Plain, prefix: str, separator: str) -> Entry:
    origin = shown(str(name)) if isinstance(name, (str, int)) else "?"
    ids = _ids(name, prefix, separator) if isinstance(name, str) else None
    if ids is None:
        return Entry(origin=origin, kind="states", problem=_FOREIGN)
    try:
        made = plain(record)
    except PickleError as error:
        return Entry(origin=origin, kind="states", problem=str(error))
    if not isinstance(made, dict):
        return Entry(origin=origin, kind="states", problem="it is not what a StatePickleStorage writes")
    return _entry(origin, ids, made.get("state"), made.get("data"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] # it is plain data


def _of_redis(name: str, state: bytes | None, data: bytes | None, prefix: str, separator: str) -> Entry:
    origin, ids = shown(name), _ids(name, prefix, separator)
    if ids is None:
        return Entry(origin=origin, kind="states", problem=_FOREIGN)
    try:
        return _entry(origin, ids, None if state is None else state.decode(), msgspec.json.decode(data or b"{}"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Entry(origin=origin, kind="states", problem="its data is not JSON")


def _entry(origin: str, ids: dict[str, Any], state: object, data: object) -> Entry:
    if isinstance(state, int):
        state = str(state)  # as its Redis storage gives numbers back
    if not isinstance(state, (str, type(None))) or not isinstance(data or {}, dict):
        return Entry(origin=origin, kind="states", problem="its state is not a text, or its data is not a dict")
    return Entry(origin=origin, kind="states", data=data or {}, state=state, **ids)


def _ids(name: str, prefix: str, separator: str) -> dict[str, Any] | None:
    """What is in a key: `prefix:[bot:][business connection:][topic:]chat:user`.

    A number alone before the chat is taken for the bot, since bots put their id there unless they are told not to.
    """
    if not name.startswith(prefix + separator):
        return None
    *rest, chat, user = name[len(prefix + separator) :].split(separator) if separator in name else ("", "")
    if not (is_id(chat) and is_id(user)) or len(rest) > 3:
        return None
    ids: dict[str, Any] = {"chat_id": int(chat), "user_id": int(user)}
    if rest and is_id(rest[0]):
        ids["bot_id"] = int(rest.pop(0))
    if rest and not is_id(rest[0]):
        ids["business_connection_id"] = rest.pop(0)
    if rest and is_id(rest[0]):
        ids["thread_id"] = int(rest.pop(0))
    return None if rest else ids
