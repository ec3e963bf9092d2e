"""The message that holds the session, the lock and the queue of a key.

JetStream changes one subject at a time, so all that a commit checks and changes is in one message: the value is the
payload, the rest is in a header. One compare-and-swap on the revision checks the lease and the version, writes the
value and releases the lock. The price is that locking and unlocking write the value again.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

HEADER = "Chatsession"
LONGEST_SILENCE = 3.5
"""Seconds after which a waiter that has not repeated its request leaves the queue."""
HEARTBEAT = 1.0
"""Seconds after which a waiter that was not woken repeats its request, which keeps its place in the queue."""


_REVISION_BITS = 44
"""The bits of a version or a fencing token that hold the revision. The era is above them."""
_ID_BITS = 32
"""The lowest bits, which tell apart messages that a server has stored at the same revision, one after a loss."""
FOREVER = 1e15
"""A time that never comes."""


class QueuedWaiter(msgspec.Struct, array_like=True, frozen=True):
    """A request that waits for a key."""

    waiter: str
    inbox: str
    """The inbox of its connection, in which it is woken."""
    seen: float
    """Server time at which it last repeated its request."""


class Entry(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"lease_seconds": "lease", "tombstone_until": "graves"}
):
    """The state of a key at one revision. Fields that the header lacks have their defaults."""

    missing: bool = False
    """No session is stored, only a lock or a queue."""
    expires: float | None = None
    """Server time at which the session expires."""
    stored_at: int = 0
    """The session's version; 0: it follows from the message's revision (see `Stored`)."""
    locked_at: int = 0
    """The fencing token of the lock; 0: it follows from the message's revision."""
    lease_seconds: float = 0.0
    """How long the lease lasts; 0: not locked."""
    until: float = 0.0
    """Server time at which the lease ends."""
    holder: str = ""
    """Which request was granted the lock, as `wake_token` of its name."""
    queue: tuple[QueuedWaiter, ...] = ()
    tombstone_until: float = 0.0
    """Server time at which a session that was stored here before would have expired."""
    era: int = 0
    """The era in which the message was written (see `_eras`); 0: by another program."""

    def is_live(self, now: float) -> bool:
        """Whether a session is stored and has not expired."""
        return not self.missing and (self.expires is None or self.expires > now)

    def is_locked(self, now: float) -> bool:
        """Whether there is a lease that has not expired."""
        return self.lease_seconds > 0 and self.until > now

    def is_nothing(self) -> bool:
        """Whether there is neither a session nor a lock nor a queue."""
        return self.missing and not self.lease_seconds and not self.queue

    def awaited_by(self, now: float) -> tuple[QueuedWaiter, ...]:
        """The waiters in the queue that have not been silent for too long."""
        return tuple(queued for queued in self.queue if abs(now - queued.seen) < LONGEST_SILENCE)

    def outlived_at(self, now: float) -> float | None:
        """When the message is no longer needed. `None`: not before it is replaced."""
        if self.is_live(now) and self.expires is None:
            return None
        ends = [self.until, *(queued.seen + LONGEST_SILENCE for queued in self.queue)]
        return max(now, *ends, self.expires or now)


def replacing(below: Entry, entry: Entry, now: float) -> Entry:
    """The state of a new message that replaces another one.

    A server that was killed may restore any message that was ever stored for a key once the message that replaced it
    has expired (https://github.com/nats-io/nats-server/issues/8505). Therefore each message records how long it must
    stay.
    """
    if not entry.missing and entry.expires is None:
        return msgspec.structs.replace(entry, tombstone_until=0.0)  # it does not expire
    tombstone_until = below.tombstone_until
    if not below.missing:
        tombstone_until = max(tombstone_until, FOREVER if below.expires is None else below.expires)
    return msgspec.structs.replace(entry, tombstone_until=tombstone_until if tombstone_until > now else 0.0)


class Stored(msgspec.Struct, frozen=True):
    """A message of the bucket; revision 0: there is none."""

    revision: int
    value: bytes
    entry: Entry
    message_id: str | None = None

    @property
    def version(self) -> int:
        """The version of the session."""
        return self.entry.stored_at or self._number

    @property
    def token(self) -> int | None:
        """The fencing token of the lock; `None`: not locked."""
        return (self.entry.locked_at or self._number) if self.entry.lease_seconds else None

    @property
    def _number(self) -> int:
        """A number that no other message ever had, and that grows from each message to the next.

        A server that lost its last messages gives their revisions again. The messages are then of a later era, unless
        their sender is connected to another server of the cluster, and has not noticed the loss.
        """
        own = crc32((self.message_id or "").encode())
        return (self.entry.era << _REVISION_BITS | self.revision) << _ID_BITS | own


NOTHING = Stored(0, b"", Entry(missing=True))

_DECODER = msgspec.json.Decoder(Entry)


def parse(header: str) -> Entry:
    """Decode the header. Raises `msgspec.DecodeError` if another program wrote it."""
    return _DECODER.decode(header)


def serialize(entry: Entry) -> str:
    """Encode the header. It is empty if all fields have their defaults."""
    text = msgspec.json.encode(entry).decode()
    return "" if text == "{}" else text
