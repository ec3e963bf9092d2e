"""In asyncio's debug mode: logs if a task that an update left running changes the session afterwards."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TypeVar

from chatsession.errors import SessionError, shown
from chatsession.observing import Observer, SessionEvent
from chatsession.unit_of_work.observed import ObservedUnit
from chatsession.unit_of_work.runtime import Runtime

T = TypeVar("T")

_log = logging.getLogger("chatsession")


class WatchedUnit(ObservedUnit[T]):
    """A session whose value is compared again when the tasks that its update started have ended."""

    __slots__ = ("_before", "_reported")

    def __init__(
        self, runtime: Runtime[T], key: str, update_id: int | str | None, ctx: object, name: str, observe: Observer
    ) -> None:
        super().__init__(runtime, key, update_id, ctx, name, observe)
        self._before = {asyncio.current_task(), *asyncio.all_tasks()}
        self._reported = False

    async def commit(self) -> None:
        await super().commit()
        if left := asyncio.all_tasks().difference(self._before, {asyncio.current_task()}):
            committed = self._state()
            for task in left:
                task.add_done_callback(partial(self._compare, committed))

    def _compare(self, committed: object, task: asyncio.Task[object]) -> None:
        if not self._reported and self._state() != committed:
            self._reported = True
            _log.error(
                "session %s: its value was changed after its update was done, and that change is lost; await what the "
                "handler starts (%s), or let it open the session by itself: async with sessions.open(key)",
                shown(self.full_key),
                task.get_name(),
            )

    def _state(self) -> object:
        try:
            return self.fingerprint()
        except SessionError:  # what cannot be stored differs from what was
            return None


def nobody_observes(event: SessionEvent) -> None:
    """An observer that does nothing."""
