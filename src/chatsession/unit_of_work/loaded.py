"""What is stored of a session, the value that was made of it, and what a commit has to change."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from chatsession.actions import methods_of
from chatsession.coordination.coordinator import Acquired
from chatsession.errors import SessionDecryptError, SessionError, SessionMigrationError
from chatsession.serialization.pipeline import Unpacked
from chatsession.storages import Action, Change, Committed, Record
from chatsession.storages.base import ANYTHING, DELETE, PUT, TOUCH
from chatsession.unit_of_work.move import follow
from chatsession.unit_of_work.outbox import Outbox
from chatsession.unit_of_work.runtime import Runtime

T = TypeVar("T")

UNMADE = object()
"""Stands for the value where nothing is stored and nobody has looked: `initial` was not called."""

_REMEMBERED = 86_400.0
"""Seconds to remember the updates of a session that was deleted: for so long Telegram delivers them again."""


class MovedError(Exception):
    """The session of this key has moved to another, or one is on its way here. Never seen outside."""

    def __init__(self, unit: Loaded[Any], unpacked: Unpacked) -> None:
        super().__init__()
        self.unit = unit
        self.unpacked = unpacked


class Loaded(Generic[T]):
    """A session's value beside what is stored of it. The only place that decides what is written."""

    __slots__ = (
        "acquired",
        "assigned",
        "ctx",
        "full_key",
        "misfit",
        "outbox",
        "record",
        "redelivered",
        "runtime",
        "touched",
        "unpacked",
        "update_id",
        "value",
    )

    runtime: Runtime[T]
    full_key: str
    """With the prefix."""
    update_id: int | str | None
    """Of the update that may change it, where updates are remembered; `None`: it has none."""
    ctx: object
    """Of that update; `None`: it is opened outside any update."""
    acquired: Acquired | None
    """The key, while it is locked: then only the session's own expiry can change what is stored."""
    outbox: Outbox | None
    """What is to be sent after the commit."""
    touched: bool
    """Somebody has read or assigned the value."""
    assigned: bool
    """Somebody has assigned a value."""
    record: Record | None
    """What is stored."""
    unpacked: Unpacked | None
    """The same, taken apart; `None`: it is bare data."""
    value: Any  # a `T`, or what stands for the lack of one
    misfit: bool
    """What is stored does not fit, and was set aside."""
    redelivered: bool
    """The update was committed before, and must not be handled again."""

    def unload(self) -> None:
        """Know nothing of what is stored."""
        self.record = self.unpacked = None
        self.value = UNMADE
        self.misfit = self.redelivered = False
        self.outbox = None

    @property
    def exists(self) -> bool:
        return self.record is not None and (self.unpacked is None or not self.unpacked.empty)

    def load(self, record: Record) -> SessionError | None:
        """Take what is stored; returns why it does not fit.

        Raises:
            MovedError: the session is under another key.
        """
        self.record = record
        serializer, key = self.runtime.serializer, self.full_key
        try:
            stored = record.value
            unpacked = serializer.unpack(key, stored)
            if unpacked is None:
                self.value = serializer.loads(key, stored)
                return None
            self.unpacked = unpacked
            if unpacked.moved_to is not None or unpacked.moving_from is not None:
                raise MovedError(self, unpacked)
            self.redelivered = self.update_id in unpacked.updates
            if self.redelivered and self.update_id is not None and unpacked.actions:
                methods = methods_of(self.ctx)
                self.outbox = self.runtime.outgoing.again(key, self.update_id, unpacked.actions, methods)
            if not unpacked.empty:
                self.value = serializer.loads(key, unpacked.data)
        except (SessionDecryptError, SessionMigrationError):  # the data is good, and what is missing is here
            raise
        except SessionError as error:
            return error
        return None

    async def follow(self, moved: MovedError) -> None:
        """Be the session of the key to which this one has moved."""
        self.full_key = await follow(self.runtime, self.full_key, moved.unpacked)

    def fingerprint(self) -> object:
        """What the value is like now; compared later, it tells whether something in it was changed."""
        if self.value is None or self.value is UNMADE:
            return self.value
        return self.runtime.serializer.fingerprint(self.full_key, self.value)

    def pending_change(self) -> Change | None:
        """What has to be written: only what differs from what is stored.

        Raises:
            SessionEncodeError: the value cannot be stored.
            SessionTooLargeError: the value is larger than `max_size`.
        """
        if self.redelivered:
            return None
        value, record = self.value, self.record
        if not self.touched or value is UNMADE or (value is None and not self.assigned):
            return self._unchanged()
        if value is None:
            return self._deleted()
        stored: bytes | None = None
        if record is not None and not self.misfit:
            stored = record.value if self.unpacked is None else self.unpacked.data
        encoded = self.runtime.serializer.dumps(self.full_key, value, stored)
        return self._unchanged() if encoded is None else self._put(encoded)

    def note(self, change: Change | None, committed: Committed | None) -> None:
        """Know what is stored after a commit."""
        if change is None or committed is None:
            return
        if change.action is PUT:
            expires_at = None if change.ttl is None else self.runtime.coordinator.storage.now() + change.ttl
            self.record = Record(change.value, committed.version, expires_at)
            self.unpacked = self.runtime.serializer.unpack(self.full_key, change.value)
            self.misfit = False
        elif change.action is DELETE:
            self.record = self.unpacked = None

    def _put(self, data: bytes | None) -> Change:
        """Store the data; `None`: nothing is left of the session but the updates that it has seen."""
        runtime, beside = self.runtime, self.unpacked
        if beside is not None and beside.actions:
            beside = runtime.outgoing.without_sent(self.full_key, beside)
        actions = () if self.outbox is None else self.outbox.stored
        stored = runtime.serializer.pack(self.full_key, data, beside, self.update_id, actions)
        ttl = runtime.ttl
        if data is None:
            ttl = _REMEMBERED if runtime.coordinator.storage.expiring else None
        elif ttl is not None:
            ttl = self._remaining(ttl)
        return self._change(PUT, stored, ttl)

    def _unchanged(self) -> Change | None:
        record, unpacked, runtime = self.record, self.unpacked, self.runtime
        if self.update_id is not None:
            if record is None or not self.exists or self.misfit:
                return self._put(None)
            return self._put(record.value if unpacked is None else unpacked.data)
        if record is None:
            return None
        if unpacked is not None and unpacked.outdated and self.touched and not unpacked.empty and not self.misfit:
            return self._put(unpacked.data)
        if runtime.ttl is None or not runtime.sliding or not self.exists:
            return None
        return self._change(TOUCH, ttl=runtime.ttl)

    def _deleted(self) -> Change | None:
        if self.update_id is not None:
            return self._put(None)
        return self._change(DELETE) if self.exists else None

    def _remaining(self, ttl: float) -> float:
        """Seconds that the session has left, of a `ttl` that counts from its first commit if it is fixed."""
        record = self.record
        if self.runtime.sliding or record is None or record.expires_at is None or not self.exists:
            return ttl
        return max(record.expires_at - self.runtime.coordinator.storage.now(), 0.001)

    def _change(self, action: Action, value: bytes = b"", ttl: float | None = None) -> Change:
        record, acquired = self.record, self.acquired
        lease = None if acquired is None else acquired.lease
        if self.runtime.unchecked:
            return Change(self.full_key, action, value, ANYTHING, ttl, lease)
        if record is None:
            return Change(self.full_key, action, value, None, ttl, lease)
        # Under a lock, the session may expire while its handler runs.
        until = None if acquired is None else record.expires_at
        return Change(self.full_key, action, value, record.version, ttl, lease, expect_until=until)
