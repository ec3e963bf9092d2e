"""Updates, described without any framework, and the same as the Bot API's JSON."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from itertools import count

DATE = 1_780_000_000
_ids = count(1_000)


class Kind(enum.Enum):
    """What an update is."""

    MESSAGE = "message"
    """A message with text."""
    INLINE_QUERY = "inline query"
    """Has a user, but no chat."""
    MIGRATE_TO = "migrate to"
    """The last service message of a group: it is the supergroup `other_chat_id` from now on."""
    MIGRATE_FROM = "migrate from"
    """The first service message of a supergroup: it was the group `other_chat_id`."""
    UNKNOWN = "unknown"
    """Of a kind that was invented after the framework's version was published."""


@dataclass(frozen=True)
class Incoming:
    """An update; it has a new id, unless the same object is fed again.

    Args:
        text: of the message or the inline query.
        chat_id: as in the Bot API: a user's id is positive, a group's negative, a supergroup's begins with -100.
        user_id: who wrote.
        kind: what it is.
        other_chat_id: where the chat went, or where it came from.
        update_id: of this update.
    """

    text: str = "🍕"
    chat_id: int = 7
    user_id: int = 7
    kind: Kind = Kind.MESSAGE
    other_chat_id: int | None = None
    update_id: int = field(default_factory=lambda: next(_ids))

    def bot_api(self) -> dict[str, object]:
        """The update as the Bot API's JSON."""
        return {"update_id": self.update_id, **self._payload()}

    def _payload(self) -> dict[str, object]:
        match self.kind:
            case Kind.MESSAGE:
                return {"message": self._message(text=self.text)}
            case Kind.MIGRATE_TO:
                return {"message": self._message(migrate_to_chat_id=self.other_chat_id)}
            case Kind.MIGRATE_FROM:
                return {"message": self._message(migrate_from_chat_id=self.other_chat_id)}
            case Kind.INLINE_QUERY:
                return {
                    "inline_query": {"id": str(self.update_id), "from": self._user(), "query": self.text, "offset": ""}
                }
            case Kind.UNKNOWN:
                return {"thought_transfer": {"chat": self._chat(), "from": self._user(), "thought": self.text}}

    def _message(self, **content: object) -> dict[str, object]:
        return {
            "message_id": self.update_id,
            "date": DATE,
            "chat": self._chat(),
            "from": self._user(),
            **content,
        }

    def _user(self) -> dict[str, object]:
        return {"id": self.user_id, "is_bot": False, "first_name": f"User {self.user_id}"}

    def _chat(self) -> dict[str, object]:
        if self.chat_id > 0:
            return {"id": self.chat_id, "type": "private", "first_name": f"User {self.chat_id}"}
        kind = "supergroup" if str(self.chat_id).startswith("-100") else "group"
        return {"id": self.chat_id, "type": kind, "title": f"Chat {self.chat_id}"}
