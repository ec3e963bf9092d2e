"""Commands that are sent together, and their outcome."""

from __future__ import annotations

from collections.abc import Sequence

from chatsession.errors import StorageError
from chatsession.storages.redis._connection import Word
from chatsession.storages.redis._scripts import Script


class Call:
    """Commands to one server, and their outcome.

    Args:
        commands: the words of each.
        name: a key, which determines the server.
        place: the server, if no key determines it.
        script: what the `EVALSHA` among the commands runs.
    """

    __slots__ = (
        "asking",
        "commands",
        "done",
        "error",
        "fault",
        "name",
        "place",
        "replies",
        "script",
        "unknown",
        "unread",
    )

    def __init__(
        self, *commands: Sequence[Word], name: bytes = b"", place: str | None = None, script: Script | None = None
    ) -> None:
        self.commands = commands
        self.name = name
        self.place = place
        self.script = script
        self.asking = False
        """The slot is being moved, and the new server accepts a command only after `ASKING`."""
        self.unknown = False
        """The server does not know the digest of the script, so its text is sent."""
        self.unread = False
        """A string in it, or in a call before it, is longer than the server takes. It was not carried out."""
        self.done = False
        self.fault: Exception | None = None
        """Why the last attempt failed."""
        self.replies: Sequence[object] = ()
        """Once it is done: the reply to each command, none of which is an error."""
        self.error: StorageError | None = None
        """Why no further attempt is made."""

    def reply(self) -> object:
        """Return the reply to the only command. Raises `StorageError` if the call failed."""
        if self.error is not None:
            raise self.error
        (reply,) = self.replies
        return reply
