"""A session that is watched; those that are not cost nothing for it."""

from __future__ import annotations

import logging
import time
from typing import Self, TypeVar

from chatsession.errors import SessionConflictError, SessionError
from chatsession.observing import Observer, Outcome, SessionEvent
from chatsession.storages import Action, Committed, Record
from chatsession.unit_of_work.runtime import Runtime
from chatsession.unit_of_work.unit import UnitOfWork

T = TypeVar("T")

_log = logging.getLogger("chatsession")

_OUTCOMES: dict[Action, Outcome] = {
    Action.PUT: "written",
    Action.DELETE: "deleted",
    Action.TOUCH: "touched",
}


class ObservedUnit(UnitOfWork[T]):
    """A session that tells an observer what became of it."""

    __slots__ = ("_began", "_committing", "_name", "_observe", "_read", "_since", "_started", "_told")

    def __init__(
        self, runtime: Runtime[T], key: str, update_id: int | str | None, ctx: object, name: str, observe: Observer
    ) -> None:
        super().__init__(runtime, key, update_id, ctx)
        self._name = name
        self._observe = observe
        self._started = self._began = self._since = 0.0
        self._read = 0
        self._committing: float | None = None
        self._told = False

    async def begin(self) -> Self:
        self._start()
        try:
            await super().begin()
        except SessionError as error:
            self._tell("error", error)
            raise
        self._since = time.perf_counter()
        return self

    async def enter_queue(self) -> None:
        self._start()
        await super().enter_queue()

    async def _arrive(self, record: Record | None) -> None:
        await super()._arrive(record)
        self._since = time.perf_counter()

    def load(self, record: Record) -> SessionError | None:
        self._read = len(record.value)
        return super().load(record)

    async def _leave(self) -> Committed | None:
        self._committing = time.perf_counter()
        committed: Committed | None = None
        try:
            left = super()._leave()
            committed = left if isinstance(left, Committed) or left is None else await left
        except SessionConflictError as error:
            self._tell("conflict", error)
            raise
        except BaseException as error:
            self._tell("error", error)
            raise
        change = self._pending
        self._tell("unchanged" if change is None else _OUTCOMES[change.action], None)
        return committed

    async def abort(self) -> None:
        handed_out = self._since > 0 and self._committing is None
        await super().abort()
        if handed_out:
            self._tell("failed", None)

    def _start(self) -> None:
        if not self._started:  # the first time, should it move to another key meanwhile
            self._started, self._began = time.time(), time.perf_counter()

    def _tell(self, outcome: Outcome, error: BaseException | None) -> None:
        if self._told:
            return
        self._told = True
        now = time.perf_counter()
        since = self._since or now
        until = self._committing or now
        change = self._pending
        written = len(change.value) if outcome == "written" and change is not None else 0
        event = SessionEvent(
            key=self.key,
            name=self._name,
            outcome=outcome,
            error=None if error is None else type(error).__name__,
            started=self._started,
            wait=since - self._began,
            held=max(until - since, 0.0),
            commit=now - until,
            read_bytes=self._read,
            written_bytes=written,
        )
        try:
            self._observe(event)
        except Exception:
            _log.exception("the observer of sessions failed; the session itself is not affected")
