"""What a campaign tells its workers, and what they say; JSON lines."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Keys(msgspec.Struct, frozen=True):
    """The chats of a campaign."""

    hot: list[str]
    tail: list[str]
    few: list[str]
    """For the kinds of sessions of which there are not many."""

    @staticmethod
    def of(tail: int) -> Keys:
        """One hot chat, so many others, and a few whose sessions expire or are not locked."""
        return Keys(["hot"], [f"tail:{n}" for n in range(tail)], [f"chat:{n}" for n in range(max(5, tail // 10))])


LASTING = "lasting:"
EXPIRING = "expiring:"
OPTIMISTIC = "optimistic:"
"""Prefixes of the keys."""


class WorkerOptions(msgspec.Struct, kw_only=True):
    """What a worker is started with."""

    name: str
    storage: str
    """The URL of the storage."""
    folder: str
    """Where its history goes."""
    routes: dict[int, int]
    """From a port of a server to that of the proxy before it."""
    keys: Keys
    in_flight: int
    seed: int
    lease: float
    lock_timeout: float
    ttl: float
    mutation: str | None = None
    """`module:function`, called with the manager before anything else."""


class Cancel(msgspec.Struct, tag="cancel"):
    """Cancel so many handlers under way."""

    count: int


class Shift(msgspec.Struct, tag="shift"):
    """The clock is off by so many seconds from now on."""

    seconds: float


class Reopen(msgspec.Struct, tag="reopen"):
    """Shut the sessions down under the load, and start them again; say `Reopened`."""


class Fork(msgspec.Struct, tag="fork"):
    """Let a forked child work for so many seconds with the same sessions, beside this process; say `Forked`."""

    seconds: float


class ChangeLoop(msgspec.Struct, tag="change loop"):
    """Drop the event loop in the middle of the work, close nothing, and go on in another one; say `LoopChanged`."""


class Finish(msgspec.Struct, tag="finish"):
    """Let what is under way end; say `Finished`."""

    seconds: float


class Dump(msgspec.Struct, tag="dump"):
    """Write what is stored into `stored.json` of the folder; say `Dumped`."""


Command: TypeAlias = Cancel | Shift | Reopen | Fork | ChangeLoop | Finish | Dump


class Progress(msgspec.Struct, tag="progress"):
    """Said once at the beginning, and then every half second."""

    changed: int
    """Changes that were acknowledged."""
    ended: int
    """Operations that ended, whichever way."""
    oldest: float
    """Seconds since the oldest of those under way began."""


class Reopened(msgspec.Struct, tag="reopened"):
    """The sessions are open again."""


class Forked(msgspec.Struct, tag="forked"):
    """The child has ended."""

    code: int
    """0 if all went well."""


class LoopChanged(msgspec.Struct, tag="loop changed"):
    """The work goes on in another event loop."""


class Finished(msgspec.Struct, tag="finished"):
    """Nothing is under way any more but what hangs."""

    hung: int


class Dumped(msgspec.Struct, tag="dumped"):
    """The file is there."""


Answer: TypeAlias = Progress | Reopened | Forked | LoopChanged | Finished | Dumped
