"""Entries read from the place where a bot kept its data before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One piece of a bot's old data, on its way into a session.

    It has the ids that `per_chat`, `per_user` and the other key functions look at, as far as they are known.

    Attributes:
        origin: where it lies, such as `chat_data[42]` or a key of Redis.
        kind: what it is, such as `"user_data"`.
        data: the data, as dicts, lists, strings, numbers, dates and the like.
        key: the session key that it had; `None`: the manager's `get_session_key` tells.
        state: aiogram's state, if there was one.
        destiny: aiogram's destiny; `None`: not in its keys.
        version: of the data, as in `migrations`; `None`: older than all.
        migrate: the data is a session's, which the manager's `migrations` bring up to date.
        problem: why it could not be read; the same words for all entries with the same problem.
        note: this is nothing to import, but something that an import leaves behind.
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
