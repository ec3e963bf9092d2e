"""A command to a server, with what is sent before and after it, and its outcome."""

from __future__ import annotations

from collections.abc import Sequence

from chatsession.storages.redis._connection import Word
from chatsession.storages.redis._scripts import COMMIT, Script


class Call:
    """A command and its outcome.

    Args:
        command: its words.
        name: a key, which determines the server.
        script: the script that it runs, if any.
        place: the server, if no key determines it.
        again: its words on a retry, if they differ.
        ahead: commands that are sent before it.
        behind: a command that is sent after it.
    """

    __slots__ = (
        "again", "ahead", "asking", "behind", "command", "done", "fault", "name", "place", "reply", "script", "unknown",
        "values",
    )  # fmt: skip

    def __init__(
        self,
        command: Sequence[Word],
        name: bytes = b"",
        script: Script | None = None,
        place: str | None = None,
        again: Sequence[Word] | None = None,
        ahead: Sequence[Sequence[Word]] = (),
        behind: Sequence[Word] | None = None,
    ) -> None:
        self.command = command
        self.ahead = ahead
        self.behind = behind
        self.again = again
        self.name = name
        self.script = script
        self.place = place
        self.asking = False
        """The slot is being moved, and the new server accepts the command only after `ASKING`."""
        self.unknown = False
        """The server does not know the digest of the script, so its text is sent."""
        self.done = False
        self.fault: Exception | None = None
        """Why the last attempt failed."""
        self.reply: object = None
        """Once it is done: the server's answer, or a `StorageError`."""
        self.values: object = None
        """The answer to the command behind it."""


def script_call(
    script: Script,
    keys: Sequence[Word],
    arguments: Sequence[Word],
    name: bytes,
    behind: Sequence[Word] | None = None,
) -> Call:
    """A call of a script.

    Args:
        script: what to run.
        keys: its keys.
        arguments: its other arguments.
        name: one of the keys, or another one in the same slot.
        behind: a command that is sent after it.
    """
    return Call(("EVALSHA", script.digest, len(keys), *keys, *arguments), name, script, behind=behind)


def commit_call(
    memory: bytes,
    keys: Sequence[Word],
    keep: int,
    changes: Sequence[Word],
    *,
    ahead: Sequence[tuple[bytes, bytes]],
    once: bool,
) -> Call:
    """A call of the script that commits.

    Args:
        memory: the key under which its outcome is remembered.
        keys: this and those of the sessions.
        keep: how many milliseconds it is remembered for.
        changes: what to do with the sessions.
        ahead: large values, and the keys to which they are sent first.
        once: the first copy does not need to check whether another one was executed before it.
    """
    script = COMMIT
    again = ("EVALSHA", script.digest, len(keys), *keys, keep, "1", *changes)
    first = ("EVALSHA", script.digest, len(keys), *keys, keep, "0", *changes) if once else again
    return Call(first, memory, script, again=again, ahead=[("SET", name, value, "PX", keep) for name, value in ahead])
