"""An update of a counter, as a history tells it."""

from __future__ import annotations

from enum import Enum

import msgspec


class State(msgspec.Struct, frozen=True, array_like=True):
    """What a counter holds."""

    count: int = 0
    by: str = ""
    """The id of the update that wrote it."""


class Fate(Enum):
    """What became of an update, as far as the one who made it knows."""

    COMMITTED = "committed"
    REFUSED = "refused"
    """By an error that promises that nothing was written."""
    UNKNOWN = "unknown"
    """The process died, or the storage did not answer: it took effect once, or not at all."""


class Effect(Enum):
    """What an update does to the session, if it takes effect."""

    COUNT = "count"
    DELETE = "delete"
    NOTHING = "nothing"
    """It only looks."""


class Update(msgspec.Struct):
    """One update of one key, put together from its events. Times are of the machine's monotonic clock."""

    id: str
    key: str
    started: float
    read: State | None = None
    ended: float | None = None
    fate: Fate = Fate.UNKNOWN
    error: str | None = None
    effect: Effect = Effect.COUNT
    read_at: float | None = None
    before: list[State] = msgspec.field(default_factory=list[State])
    """What it read when it ran before, and had to begin anew."""

    @property
    def writes(self) -> State | None:
        """What is stored when it takes effect; `None`: the same as before."""
        if self.read is None or self.effect is Effect.NOTHING:
            return None
        if self.effect is Effect.COUNT:
            return State(self.read.count + 1, self.id)
        return None if self.read == State() else State()

    @property
    def process(self) -> str:
        """Where it ran: what its id begins with."""
        return self.id.rpartition(":")[0]

    @property
    def given(self) -> list[State]:
        """What the next one of its process may have been given, although it was never stored.

        Its handler had succeeded then, but its commit did not.
        """
        given = [State(read.count + 1, self.id) for read in self.before]
        failed = self.fate is Fate.UNKNOWN or (self.fate is Fate.REFUSED and self.error not in _OF_HANDLERS)
        return [*given, self.writes] if failed and self.writes is not None else given


_OF_HANDLERS = {"HandlerFailedError", "CancelledError"}
"""A refused update that ended so was still in its handler: nobody was given anything of it."""
