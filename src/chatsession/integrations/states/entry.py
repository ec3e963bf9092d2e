"""One record in an update: what is stored, and what the update makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from chatsession.errors import SessionConflictError
from chatsession.integrations.states.records import EMPTY, STATE, StateRecord, differing
from chatsession.unit_of_work.unit import UnitOfWork

Write: TypeAlias = Callable[[StateRecord], StateRecord]
"""Returns the new record for an old one, which it does not change."""


class Entry:
    """One record in an update: what is stored, and what the update makes of it."""

    __slots__ = ("_overtaken", "locked", "stored", "unit", "view")

    def __init__(self, unit: UnitOfWork[StateRecord], *, locked: bool) -> None:
        self.unit: UnitOfWork[StateRecord] = unit
        self.locked: bool = locked
        self.stored: StateRecord = unit.data if unit.exists else EMPTY
        """The record as it is stored."""
        self.view: StateRecord = self.stored
        """The record as the update sees it."""
        self._overtaken: set[object] = set()
        """Fields that somebody else has written meanwhile, and the update has not looked at since."""

    def look_at_state(self) -> None:
        """The update looks at the state."""
        self._overtaken.discard(STATE)

    def look_at_data(self) -> None:
        """The update looks at the data."""
        self._overtaken &= {STATE}

    def write(self, write: Write) -> StateRecord:
        """Change what the update sees.

        Raises:
            SessionConflictError: that would undo what somebody else has written meanwhile.
        """
        after = write(self.view)
        if self._overtaken and not self._overtaken.isdisjoint(differing(self.view, after)):
            raise SessionConflictError(
                "another update has written the same part of it meanwhile; nothing was written, read it again or "
                "handle the update again",
                key=self.unit.key,
            )
        self.view = after
        return after

    async def write_through(self, write: Write) -> StateRecord:
        """Store a change of somebody else now, whatever becomes of this update; the update sees it, too."""
        unit, before = self.unit, self.view
        after, view = write(self.stored), write(before)
        update_id, unit.update_id = unit.update_id, None  # it is not this update that is stored
        unit.data = _worth_storing(after)
        try:
            await unit.save()
        except BaseException:
            unit.data = _worth_storing(self.stored)
            raise
        finally:
            unit.update_id = update_id
        self.stored = after
        self.view = view
        self._overtaken |= differing(before, view)
        return after

    def settle(self) -> None:
        """The update is done: this is what the commit writes."""
        if self.view is not self.stored:
            self.unit.data = _worth_storing(self.view)


def _worth_storing(record: StateRecord) -> StateRecord | None:
    return record if record.state is not None or record.data else None
