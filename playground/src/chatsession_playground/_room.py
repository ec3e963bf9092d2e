"""A chat with the bot as its views show it: who is in it, and what was said."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ._queue import Update
from ._updates import User
from .chats import Chat

Kind: TypeAlias = Literal["own", "bot", "note"]

MOST_LINES = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said in a chat, or a note about what happened.

    Args:
        kind: said by a person, said by the bot, or a note.
        who: the name of the person, or `"bot"`; empty for a note.
        text: what it says.
        update: the update that brought it to the bot, if a person said it.
    """

    kind: Kind
    who: str
    text: str
    update: Update | None = None


@dataclass(slots=True, eq=False)
class Room:
    """A chat with the bot.

    Args:
        name: of the person, or the title of the group.
        chat: where the people write.
        people: who is in it.
        ids: the chat ids under which it is, and was, known.
        stored: key → what the bot has stored for this chat, as JSON.
        lines: what was said, oldest first.
    """

    name: str
    chat: Chat
    people: Sequence[User]
    ids: list[int]
    stored: dict[str, str] = field(default_factory=dict[str, str])
    lines: list[Line] = field(default_factory=list[Line])

    def add(self, line: Line) -> None:
        """Append a line, and forget the oldest one if there are too many."""
        self.lines.append(line)
        del self.lines[:-MOST_LINES]

    def count(self, kind: Kind) -> int:
        """How many lines of a kind there are."""
        return sum(line.kind == kind for line in self.lines)
