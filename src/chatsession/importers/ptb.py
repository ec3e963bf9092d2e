"""python-telegram-bot's `PicklePersistence`: its `user_data`, `chat_data` and `bot_data`.

Nothing in a pickle is executed or imported, and python-telegram-bot need not be installed.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from chatsession.importers._entries import Entry
from chatsession.importers._pickles import Plain
from chatsession.importers._unpickling import PickleError, load, pairs_of, reading

__all__ = ["Kind", "entries"]

Kind: TypeAlias = Literal["user_data", "chat_data", "bot_data"]

PARTS = ("user_data", "chat_data", "bot_data", "conversations", "callback_data")

_LARGEST_ID = 2**63
"""Above all ids of Telegram; Python cannot even print some that are larger."""
_PER_TURN = 10


async def entries(
    path: str | os.PathLike[str],
    kind: Kind,
    *,
    single_file: bool | None = None,
    allow: Sequence[str] = (),
) -> AsyncGenerator[Entry]:
    """Read one kind of the data that a bot kept in a `PicklePersistence`.

    Entries of `user_data` have a `user_id` and those of `chat_data` a `chat_id`, so that sessions `per_user` or
    `per_chat` find their keys; that of `bot_data` has the key `"bot"`. Stop the old bot first: it writes its file
    in place, and keeps what is newer in memory. The whole file is held in memory, and reading a large one makes other
    tasks wait for moments: do it in a process of its own if a bot runs in this one.

    Args:
        path: the `filepath` of the `PicklePersistence`.
        kind: the kind of data.
        single_file: as given to the `PicklePersistence`; `None`: detect it.
        allow: patterns of class names, such as `"myapp.models.*"` or `"telegram.*"`: objects of these classes become
            dicts of their attributes (enums their values). An entry with objects of other classes is not imported.
            Dates, sets, decimals, UUIDs and the dicts of `collections` need no permission.

    Raises:
        SessionError: the file cannot be read, or is not what a `PicklePersistence` writes.
    """
    if kind not in ("user_data", "chat_data", "bot_data"):
        raise ValueError(f"kind must be 'user_data', 'chat_data' or 'bot_data', not {kind!r}")
    found = await asyncio.to_thread(_read, Path(path), kind, single_file)
    plain = Plain(allow)
    for number, (id_, data) in enumerate(found.data):
        if data is not None and pairs_of(data) != []:  # python-telegram-bot keeps empty dicts for everyone it has seen
            yield _entry(kind, id_, data, plain)
        if number % _PER_TURN == 0:
            await asyncio.sleep(0)
    for _ in range(found.conversations):
        yield Entry(origin="conversations", kind="conversations", note="states of ConversationHandlers")
    if found.callback_data:
        yield Entry(origin="callback_data", kind="callback_data", note="arbitrary callback_data of buttons")


class _Found(NamedTuple):
    data: list[tuple[object, object]]
    """The data by the id of the user or chat; for the bot, a single item without an id."""
    conversations: int
    callback_data: bool


def read_parts(path: Path, names: Sequence[str], single_file: bool | None) -> dict[str, object]:
    """Read some parts of what a `PicklePersistence` has written, by name. Parts that it never wrote are missing.

    Raises:
        SessionError: the file cannot be read, or is not what a `PicklePersistence` writes.
    """
    with reading(path):
        if path.is_file() if single_file is None else single_file:
            return {name: value for name, value in pairs_in(load(path)) if isinstance(name, str) and name in names}
        return _several(path, names)


def _read(path: Path, kind: Kind, single_file: bool | None) -> _Found:
    whole = read_parts(path, (kind, "conversations", "callback_data"), single_file)
    with reading(path):
        data: object = whole.get(kind)
        return _Found(
            [(None, data)] if kind == "bot_data" else pairs_in(data),
            sum(len(pairs_in(states)) for _, states in pairs_in(whole.get("conversations"))),
            bool(whole.get("callback_data")),
        )


def _several(path: Path, names: Sequence[str]) -> dict[str, object]:
    """Read the files of `single_file=False`, one for each part; parts that were never written have none."""
    files = {name: path.with_name(f"{path.name}_{name}") for name in PARTS}
    if not any(file.exists() for file in files.values()):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return {name: load(files[name]) for name in names if files[name].exists()}


def pairs_in(value: object) -> list[tuple[Any, Any]]:
    """The pairs of a dict. Raises `PickleError` if it is not a dict."""
    pairs = [] if value is None else pairs_of(value)
    if pairs is None:
        raise PickleError("is not what a PicklePersistence writes")
    return pairs


def _entry(kind: Kind, id_: object, data: object, plain: Plain) -> Entry:
    is_id = isinstance(id_, int) and abs(id_) < _LARGEST_ID
    origin = kind if kind == "bot_data" else f"{kind}[{id_}]" if is_id else f"{kind}[?]"
    if kind != "bot_data" and not is_id:
        return Entry(origin=origin, kind=kind, problem="its id is not a number, or is larger than any of Telegram's")
    try:
        made = plain(data)
    except PickleError as error:
        return Entry(origin=origin, kind=kind, problem=str(error))
    return Entry(
        origin=origin,
        kind=kind,
        data=made,
        key="bot" if kind == "bot_data" else None,
        chat_id=id_ if kind == "chat_data" and isinstance(id_, int) else None,
        user_id=id_ if kind == "user_data" and isinstance(id_, int) else None,
    )
