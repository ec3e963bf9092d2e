"""One open session: loaded, looked at, changed or not, and committed. The only place that decides what is written."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

import msgspec

from chatsession.coordination.coordinator import Acquired
from chatsession.errors import (
    SessionClosedError,
    SessionConflictError,
    SessionDecryptError,
    SessionError,
    SessionMigrationError,
)
from chatsession.serialization.envelope import looks_enveloped
from chatsession.serialization.pipeline import Unpacked
from chatsession.storages import Action, Change, Committed, Expect, Record, Version
from chatsession.storages.base import ANYTHING, DELETE, KEEP, PUT, TOUCH
from chatsession.unit_of_work.move import where
from chatsession.unit_of_work.runtime import Runtime

T = TypeVar("T")

_log = logging.getLogger("chatsession")


class _Phase(Enum):
    NEW = "is not open yet; enter it by `async with`"
    OPENING = "is not loaded yet"
    OPEN = "is open"
    RELEASED = "was released: it may be read, but a change would be lost; open it again to change it"
    CLOSED = "is used after its update was done, so that a change would be lost; open it again to use it"


_NEW, _OPENING, _OPEN, _RELEASED, _CLOSED = _Phase
_UNMADE = object()
"""Nothing is stored, and nobody has looked yet: `initial` was not called."""
_TURN = Acquired(None, None)
"""The turn in this process, without a lock on the storage yet."""

Work: TypeAlias = tuple[Action, bytes, float | None, Unpacked | None]
"""What a commit does: its action, the bytes and the time to live of the `Change`, and what the bytes are made of."""
_NO_WORK: Work = (KEEP, b"", None, None)

_TOMBSTONE = 86_400.0
"""Seconds to remember the updates of a session that was deleted: for so long Telegram delivers them again."""


class Elsewhere(Exception):  # noqa: N818 - no error, and never seen outside
    """The session of this key has moved to another, or one is on its way here."""

    def __init__(self, session: Session[object], opened: Unpacked) -> None:
        super().__init__()
        self.session = session
        self.opened = opened


class Session(Generic[T]):
    """One open session, a unit of work: what happens to its data counts as a whole, or not at all.

    Made by `SessionManager.open` and used as `async with sessions.open(key) as s:`. When the block ends, the data is
    stored if it differs from what is stored (rule 4); when it raises or is cancelled, nothing is (rule 5). A
    cancellation that arrives while a commit is under way takes effect once the outcome is known.

    Raises, when the block ends:
        SessionConflictError: somebody else changed the session, or its lock was lost; nothing was written.
        SessionEncodeError: the data cannot be stored; nothing was written.
        SessionTooLargeError: the data is larger than `max_size`; nothing was written.
        StorageUnavailableError: the storage did not answer within its bounded retry.
    """

    __slots__ = (
        "_assigned",
        "_grant",
        "_key",
        "_misfit",
        "_opened",
        "_phase",
        "_plan",
        "_record",
        "_redelivered",
        "_released_as",
        "_touched",
        "_update",
        "_value",
        "_work",
    )

    def __init__(self, plan: Runtime[T], key: str) -> None:
        self._plan = plan
        self._key = key
        self._phase = _NEW
        self._grant: Acquired | None = None
        self._record: Record | None = None
        self._opened: Unpacked | None = None
        self._update: int | str | None = None
        self._redelivered = False
        self._value: Any = _UNMADE  # a `T`, or what stands for the lack of one
        self._misfit = False
        self._touched = False
        self._assigned = False
        self._work: Work | None = None
        self._released_as: object = _UNMADE

    def __repr__(self) -> str:
        return f"<Session {self._key!r}, {self._phase.name.lower()}>"

    @property
    def key(self) -> str:
        """The key, as it was given to `open` (without the prefix), or the one to which that session has moved."""
        return self._key[len(self._plan.prefix) :]

    @property
    def _order(self) -> tuple[int, str]:
        """Where it stands in the one order in which sessions are locked."""
        return self._plan.coordinator.number, self._key

    @property
    def exists(self) -> bool:
        """Is something stored under this key (as of the load, or of the last commit of this session)?"""
        return self._record is not None and (self._opened is None or not self._opened.vacant)

    @property
    def data(self) -> T:
        """The value; where nothing is stored, what `initial` makes. Assign to replace, assign `None` to delete."""
        if self._phase is not _OPEN and self._phase is not _RELEASED:
            raise self._misused()
        self._touched = True
        if self._value is _UNMADE:
            self._value = self._plan.fresh(self._key)
            if self._phase is _RELEASED:
                self._released_as = self._looks()
        return self._value

    @data.setter
    def data(self, value: T | None) -> None:
        if self._phase is not _OPEN:
            raise self._misused()
        self._value = value
        self._touched = self._assigned = True

    async def save(self) -> None:
        """Commit now what has changed, and stay open. Durable when this returns; raises as the end of the block."""
        if self._phase is not _OPEN:
            raise self._misused()
        work = self._outcome()
        action, value, ttl, _ = work
        lease = self._grant.lease if self._grant else None
        if action is KEEP:
            if lease is not None:
                await self._plan.coordinator.wait_durable(lease)
            return
        change = Change(self._key, action, value, self._expected(), ttl, lease)
        await self._plan.coordinator.commit(change, lambda committed: self._note(work, committed))

    async def release(self) -> None:
        """Commit now what has changed, and let the key's next update in; for handlers that go on for long.

        The data may still be read, but no longer be changed (rule 15a): assigning raises `SessionClosedError`, and
        so does the end of the block if a part of the data was changed.
        """
        if self._phase is not _OPEN:
            raise self._misused()
        try:
            if (leaving := self._leave()) is not None:
                self._note(self._work, await leaving)
        except BaseException:
            await self._abandon()
            raise
        self._phase = _RELEASED
        self._released_as = self._looks()

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        return self._begin()

    def __aexit__(self, kind: type[BaseException] | None, *_: object) -> Coroutine[Any, Any, None]:
        return self._finish() if kind is None else self._abandon()

    # What follows is for managers and middlewares.

    async def _begin(self) -> Self:
        """Wait for the turn, lock, load."""
        plan = self._plan
        if not plan.running or self._phase is not _NEW:
            await self._may_begin()
        plan.active += 1
        self._phase = _OPENING
        try:
            if plan.exclusive:
                grant = plan.coordinator.enter_now(self._key)
                if grant is None:
                    grant = await plan.coordinator.enter_later(self._key, plan.lock_timeout, plan.lock_lease)
                self._grant = grant
                record = grant.record
            else:
                record = await plan.coordinator.read(self._key)
            if record is not None and (misfit := self._load(record)) is not None:
                await self._set_aside(record, misfit)
            self._phase = _OPEN
        except Elsewhere as elsewhere:
            await self._abandon()
            await self._follow(elsewhere)
            return await self._begin()
        except BaseException:
            await self._abandon()
            raise
        return self

    async def _follow(self, elsewhere: Elsewhere) -> None:
        """Be the session of the key to which this one has moved."""
        self._key = await where(self._plan, self._key, elsewhere.opened)
        self._renew()

    def _renew(self) -> None:
        """Be as new after an `_abandon`."""
        self._phase = _NEW
        self._record = self._opened = None
        self._value = _UNMADE
        self._misfit = self._redelivered = False

    async def _may_begin(self) -> None:
        if self._phase is not _NEW:
            raise SessionClosedError("this Session was used before; open another", key=self._key)
        await self._plan.admit(self._key)

    async def _take_turn(self) -> None:
        """The first half of `_begin`, where several sessions open together: wait for the turn in this process."""
        if not self._plan.running or self._phase is not _NEW:
            await self._may_begin()
        self._plan.active += 1
        self._phase = _OPENING
        if not self._plan.exclusive:
            return
        try:
            handover = await self._plan.coordinator.take_turn(self._key, self._plan.lock_timeout)
        except BaseException:
            self._close()
            raise
        self._grant = handover or _TURN

    async def _lock_now(self) -> bool:
        """The second half of `_begin`: lock and load; `False` if another process holds the key."""
        plan = self._plan
        if not plan.exclusive:
            await self._arrive(await plan.coordinator.read(self._key))
            return True
        if self._grant is _TURN:
            grant = await plan.coordinator.lock_now(self._key, plan.lock_lease)
            if grant is None:
                return False
            self._grant = grant
        await self._arrive(self._grant.record if self._grant else None)
        return True

    async def _lock(self) -> None:
        """As `_lock_now`, but waits for the other process."""
        plan = self._plan
        self._grant = await plan.coordinator.lock(self._key, plan.lock_timeout, plan.lock_lease)
        await self._arrive(self._grant.record)

    async def _unlock(self) -> None:
        """Undo `_lock_now`."""
        grant = self._grant
        if grant is not None and grant is not _TURN:
            self._grant = _TURN
            await self._plan.coordinator.unlock(grant)
        self._renew()
        self._phase = _OPENING

    async def _arrive(self, record: Record | None) -> None:
        if record is not None and (misfit := self._load(record)) is not None:
            await self._set_aside(record, misfit)
        self._phase = _OPEN

    async def _set_aside(self, record: Record, misfit: SessionError) -> None:
        await self._plan.set_aside(self._key, record, misfit)
        self._misfit = True

    def _load(self, record: Record) -> SessionError | None:
        """Take what is stored; returns why it is none of ours."""
        self._record = record
        plan = self._plan
        try:
            stored = record.value
            if plan.bare and not looks_enveloped(stored):
                self._value = plan.decode(self._key, stored)
                return None
            opened = plan.opened(self._key, stored)
            if opened is not None:
                self._opened = opened
                if opened.moved_to is not None or opened.moving_from is not None:
                    raise Elsewhere(cast("Session[object]", self), opened)
                self._redelivered = self._update in opened.updates
                if opened.vacant:
                    return None
            self._value = plan.decode(self._key, stored if opened is None else opened.data)
        except (SessionDecryptError, SessionMigrationError):  # the data is good, and what is missing is here
            raise
        except SessionError as error:
            return error
        return None

    def _forgo(self) -> None:
        """Write nothing at the end, whatever was looked at."""
        self._work = _NO_WORK

    def _prepare(self) -> None:
        """Encode what is to be written, so that a value which cannot be stored is found before any commit."""
        if self._phase is _OPEN:
            self._work = self._outcome()

    async def _finish(self) -> None:
        """The handler returned: commit, and let the next one in."""
        try:
            if self._phase is _OPEN:
                if (leaving := self._leave()) is not None:
                    self._note(self._work, await leaving)
            elif self._phase is _RELEASED:
                self._check_unchanged()
        except BaseException:
            await self._abandon()
            raise
        self._close()

    async def _abandon(self) -> None:
        """The handler failed: write nothing, and let the next one in."""
        grant, self._grant = self._grant, None
        try:
            if grant is not None:
                record = grant.record if self._phase is _OPENING else self._record
                await self._plan.coordinator.leave(self._key, grant, record)
        except SessionConflictError:  # what it was given was never stored, and nothing is to come of it anyway
            pass
        except SessionError as error:  # the handler's own error is what its caller must see
            _log.warning("a session lock could not be given back, it will run out by itself: %s", error)
        finally:
            self._close()

    def _leave(self) -> Coroutine[Any, Any, Committed | None] | None:
        """Commit, and let the next one in; `None` if that is done already."""
        work = self._work = self._work or self._outcome()
        action, value, ttl, _ = work
        coordinator, expected = self._plan.coordinator, self._expected()
        grant, self._grant = self._grant, None
        if grant is None:
            return None if action is KEEP else coordinator.commit(Change(self._key, action, value, expected, ttl))
        if not coordinator.immediate:
            return coordinator.leave(self._key, grant, self._record, action, value, expected, ttl)
        self._note(work, coordinator.leave_now(self._key, action, value, expected, ttl))
        return None

    def _outcome(self) -> Work:
        """What has to be done to the storage, rule 4."""
        if self._redelivered:  # this update has changed the session before
            return _NO_WORK
        opened = self._opened
        if not self._touched or self._value is _UNMADE or (self._value is None and not self._assigned):
            return self._unchanged()
        if self._value is None:
            return self._deleted()
        plan = self._plan
        stored: bytes | None = None
        if self._record is not None and not self._misfit:
            stored = self._record.value if opened is None else opened.data
        encoded = plan.encode(self._key, self._value, stored)
        if encoded is None:
            return self._unchanged()
        if plan.bare and opened is None and self._update is None and not looks_enveloped(encoded):
            return PUT, encoded, None if plan.ttl is None else self._ttl(), None
        return self._put(encoded)

    def _put(self, data: bytes) -> Work:
        value, opened = self._plan.sealed(self._key, data, self._opened, self._update)
        return PUT, value, self._ttl(), opened

    def _unchanged(self) -> Work:
        record, opened = self._record, self._opened
        if self._update is not None:
            if record is None or not self.exists or self._misfit:
                return self._remembered()
            return self._put(record.value if opened is None else opened.data)
        if record is None:
            return _NO_WORK
        if opened is not None and opened.stale and self._touched and not opened.vacant and not self._misfit:
            return self._put(opened.data)
        if self._plan.ttl is None or not self._plan.sliding or not self.exists:
            return _NO_WORK
        return TOUCH, b"", self._plan.ttl, opened

    def _deleted(self) -> Work:
        if self._update is not None:
            return self._remembered()
        return (DELETE, b"", None, None) if self.exists else _NO_WORK

    def _remembered(self) -> Work:
        """Nothing is left of the session but the updates that it has seen."""
        value, opened = self._plan.sealed(self._key, None, self._opened, self._update)
        expiring = self._plan.coordinator.storage.expiring
        return PUT, value, _TOMBSTONE if expiring else None, opened

    def _ttl(self) -> float | None:
        ttl, record = self._plan.ttl, self._record
        if ttl is None or self._plan.sliding or record is None or record.expires_at is None or not self.exists:
            return ttl
        return max(record.expires_at - self._plan.coordinator.storage.now(), 0.001)

    def _expected(self) -> Version | Expect | None:
        record = self._record
        if self._plan.unchecked:
            return ANYTHING
        if record is not None and record.expires_at is not None and self._grant is not None:
            return ANYTHING  # it may expire under the handler, whose lock guards it from others
        return None if record is None else record.version

    def _note(self, work: Work | None, committed: Committed | None) -> None:
        if committed is None or work is None:  # nothing had to be done
            return
        action, value, ttl, opened = work
        if action is PUT:
            expires_at = None if ttl is None else self._plan.coordinator.storage.now() + ttl
            self._record = Record(value, committed.version, expires_at)
            self._opened = opened
            self._misfit = False
        elif action is DELETE:
            self._record = self._opened = None

    def _looks(self) -> object:
        """What the data is like now; compared later, it tells whether something in it was changed."""
        if self._value is None or self._value is _UNMADE:
            return self._value
        encoded = self._plan.encode(self._key, self._value, None)
        return encoded if isinstance(encoded, bytes) else _as_text(encoded)

    def _check_unchanged(self) -> None:
        if self._looks() != self._released_as:
            raise SessionClosedError(
                "its data was changed after it was released, and that change is lost; "
                "make later changes through sessions.open() or sessions.update()",
                key=self._key,
            )

    def _close(self) -> None:
        if self._phase is not _NEW and self._phase is not _CLOSED:
            self._plan.leave()
        self._phase = _CLOSED

    def _misused(self) -> SessionClosedError:
        return SessionClosedError(f"the session {self._phase.value}", key=self._key)


def _as_text(value: object) -> bytes | None:
    """An adapter's value as bytes, to be compared only; `None` where that cannot be done."""
    try:
        return msgspec.json.encode(value, enc_hook=vars)
    except Exception:
        return None
