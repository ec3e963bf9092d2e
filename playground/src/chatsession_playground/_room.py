"""A chat with the bot as its views show it: who is in it, and what was said."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from ._queue import Update
from ._updates import User
from .chats import Chat

Kind: TypeAlias = Literal["own", "bot", "note"]

MOST_LINES = 200


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message of the bot."""

    text: str
    data: str


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said in a chat, or a note about what happened.

    Args:
        kind: said by a person, said by the bot, or a note.
        who: the name of the person, or `"bot"`; empty for a note.
        text: what it says.
        update: the update that brought it to the bot, if a person said it.
        message_id: of a message of the bot.
        buttons: that are under it.
    """

    kind: Kind
    who: str
    text: str
    update: Update | None = None
    message_id: int | None = None
    buttons: tuple[Button, ...] = ()


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

    def edit(self, line: Line) -> None:
        """Put a line in place of the one about the same message."""
        self.lines = [line if old.message_id == line.message_id else old for old in self.lines]

    def delete(self, message_id: int) -> None:
        """Remove the line about a message."""
        self.lines = [line for line in self.lines if line.message_id != message_id]

    def forget_messages(self) -> None:
        """Keep what was said, and nothing that refers to a message: its id is not known any more."""
        self.lines = [replace(line, message_id=None, buttons=()) for line in self.lines]

    @property
    def last_buttons(self) -> Line | None:
        """The latest line with buttons."""
        return next((line for line in reversed(self.lines) if line.buttons), None)

    def count(self, kind: Kind) -> int:
        """How many lines of a kind there are."""
        return sum(line.kind == kind for line in self.lines)
