"""One record in an update: what is stored, and what the update makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from chatsession.errors import SessionConflictError
from chatsession.integrations.states.records import EMPTY, STATE, State, StateKey, StateRecord, differing
from chatsession.storages import Version
from chatsession.unit_of_work.unit import UnitOfWork

Write: TypeAlias = Callable[[StateRecord], StateRecord]
"""Returns the new record for an old one, which it does not change."""


class Entry:
    """One record in an update: what is stored, and what the update makes of it."""

    __slots__ = ("_overtaken", "key", "locked", "stored", "unit", "view")

    def __init__(self, key: StateKey, unit: UnitOfWork[StateRecord], *, locked: bool) -> None:
        self.key: StateKey = key
        self.unit: UnitOfWork[StateRecord] = unit
        self.locked: bool = locked
        self.stored: StateRecord = _stored_in(unit)
        """The record as it is stored."""
        self.view: StateRecord = self.stored
        """The record as the update sees it."""
        self._overtaken: frozenset[object] = _NOTHING
        """Fields that somebody else has written meanwhile, and the update has not looked at since."""

    @property
    def state(self) -> State:
        """The state, which the update looks at."""
        if self._overtaken:
            self._overtaken -= {STATE}
        return self.view.state

    def copy_data(self) -> dict[str, Any]:
        """The data, which the update looks at, as a dict that nobody else has."""
        if self._overtaken:
            self._overtaken &= {STATE}
        return self.view.copy_data()

    @property
    def version(self) -> Version | None:
        """Of the record that was loaded."""
        return self.unit.record and self.unit.record.version

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
        unit.data = None if after.empty else after
        try:
            await unit.save()
        except BaseException:
            unit.data = None if self.stored.empty else self.stored
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
            self.unit.data = None if self.view.empty else self.view


_NOTHING: Final[frozenset[object]] = frozenset()


def _stored_in(unit: UnitOfWork[StateRecord]) -> StateRecord:
    if not unit.exists:
        return EMPTY
    if unit.unpacked is None and not unit.misfit:
        return unit.value  # without the mark that somebody has touched it: the commit need not compare it
    return unit.data
