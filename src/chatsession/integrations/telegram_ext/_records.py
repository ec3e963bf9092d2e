"""The record that is stored under one Telegram id.

A private chat has the id of its user: what belongs to either is one record. It is locked once, read in one trip and
stored in one write, together with the states of the user's conversations. A group has a record of its own.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

import msgspec
from msgspec import Struct

Id: TypeAlias = int | str
"""Of a chat or a user; for conversations of neither, of a message."""
DataName: TypeAlias = Literal["user_data", "chat_data"]
StoredName: TypeAlias = Literal["user_data", "chat_data", "bot_data"]
State: TypeAlias = int | str | tuple[int | str, float]
"""Of a conversation; with the Unix time at which it times out, if it does."""


class IdRecord(Struct, omit_defaults=True):
    """What is stored under one id."""

    user_data: Any = None
    chat_data: Any = None
    conversations: dict[str, dict[str, State]] = {}
    """By the name of the `ConversationHandler`, then by the key of the conversation as JSON."""
    moved: tuple[int, int] | None = None
    """The ids of a group and of the supergroup that it became: conversations of either are those of the supergroup."""

    @property
    def empty(self) -> bool:
        """Whether nothing is left to store."""
        return self.user_data is None and self.chat_data is None and not self.conversations and self.moved is None


def record_type(user_data: Any, chat_data: Any) -> type[IdRecord]:
    """`IdRecord`, with the types of an application's data."""
    fields = [("user_data", user_data | None, None), ("chat_data", chat_data | None, None)]
    return cast(
        "type[IdRecord]", msgspec.defstruct("IdRecord", fields, bases=(IdRecord,), module=__name__, omit_defaults=True)
    )


def merged(old: IdRecord, new: IdRecord) -> IdRecord:
    """What a supergroup has when the group that it was had something as well; as in `migrate_chat_data`."""
    if old.chat_data is not None:
        new.chat_data = old.chat_data
    for name, states in old.conversations.items():
        new.conversations[name] = {**new.conversations.get(name, {}), **states}
    return new
