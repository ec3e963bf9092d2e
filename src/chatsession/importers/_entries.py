"""Entries: the old data of a bot, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LONGEST_ID = 20
"""Digits; Telegram's ids have fewer."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One piece of a bot's old data, to be imported as a session.

    It has the ids that `per_chat`, `per_user` and the other key functions use, as far as they are known.

    Attributes:
        origin: where it was found, such as `chat_data[42]` or a key of Redis.
        kind: what it is, such as `"user_data"`.
        data: the data, as dicts, lists, strings, numbers, dates and the like.
        key: the session key that it had; `None`: the manager's `get_session_key` determines it.
        state: aiogram's state, if there was one.
        destiny: aiogram's destiny; `None`: not in its keys.
        version: the schema version of the data, as in `migrations`; `None`: before the first.
        migrate: the data is a session's, to which the manager's `migrations` apply.
        problem: why it could not be read; the same text for all entries with the same problem.
        note: what this is, if it is not to be imported but only reported as left behind.
    """

    origin: str
    kind: str
    data: Any = None
    key: str | None = None
    chat_id: int | None = None
    user_id: int | None = None
    thread_id: int | None = None
    business_connection_id: str | None = None
    bot_id: int | None = None
    state: str | None = None
    destiny: str | None = None
    version: float | None = None
    migrate: bool = False
    problem: str | None = None
    note: str | None = None


def is_id(text: str) -> bool:
    """Whether a part of a key is an id."""
    return len(text) <= _LONGEST_ID and text.isascii() and text.removeprefix("-").isdecimal()
