"""What every storage back end implements: bytes in, bytes out, many keys at once.

A storage knows keys, bytes, versions, expiry and locks; it never sees a user's type. The core calls only the methods
below, so that it need not know which back end it uses.

Batches consist of msgspec Structs: they are immutable, and creating one takes a fifth of a named tuple's time.

One bad key does not fail its neighbours: an item's own failure is *returned* in its place in the list, a failure of
the whole call is *raised*. Only an answer "there is no such key" means a missing session (`None`); any other failure
is an error.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, TypeAlias

from msgspec import Struct

from chatsession._signatures import signature_of
from chatsession.errors import SessionError

Version: TypeAlias = object
"""Opaque to the core, which passes back what a read or a commit returned."""


class Record(Struct, frozen=True, gc=False):
    """What is stored under one key."""

    value: bytes
    version: Version
    expires_at: float | None = None
    """Unix time in seconds, or `None`: never."""


class Lease(Struct, frozen=True, gc=False):
    """A lock that expires unless it is renewed."""

    key: str
    token: int
    """The fencing token: larger than every token that this key was ever locked with before."""


class LockRequest(Struct, frozen=True, gc=False):
    """A request to lock a key; repeated unchanged, it keeps its place in the queue of that key."""

    key: str
    waiter: str
    """Unique among all requests, in all processes."""
    seconds: float
    """How long the lease lasts unless it is renewed."""


class Locked(Struct, frozen=True, gc=False):
    """The key is locked, and this is what was stored under it at that moment (`None`: nothing)."""

    lease: Lease
    record: Record | None


class Action(Enum):
    """What a commit does to a key."""

    PUT = "put"
    DELETE = "delete"
    TOUCH = "touch"
    """Restart the time to live; the value is not written again."""
    KEEP = "keep"
    """Nothing: for a commit that only unlocks."""


class Expect(Enum):
    """What a commit may expect other than a version or absence (`None`)."""

    ANYTHING = "anything"


class Change(Struct, frozen=True, gc=False):
    """One commit to one key.

    It is applied if `expect` holds (a version: that version is still stored; `None`: nothing is stored) and, where
    a lease is given, that lease is still the key's newest. `unlock` releases the lease in the same step, even if the
    version did not match.
    """

    key: str
    action: Action
    value: bytes = b""
    expect: Version | Expect | None = Expect.ANYTHING
    ttl: float | None = None
    """Seconds from now after which a `PUT` or `TOUCH` record is missing; `None`: never."""
    lease: Lease | None = None
    unlock: bool = False
    expect_until: float | None = None
    """Unix time at which the expected version expires, by the storage's clock (`Record.expires_at`). From then on the
    change is also carried out if nothing is stored; before, absence means that the session was deleted elsewhere."""

    def accepts(self, stored: Version | None, now: float) -> bool:
        """Whether `expect` holds.

        Args:
            stored: the version that is stored; `None`: nothing is, or it has expired.
            now: the storage's clock.
        """
        if self.expect is ANYTHING or self.expect == stored:
            return True
        return stored is None and self.expect_until is not None and self.expect_until <= now


class Committed(Struct, frozen=True, gc=False):
    """The change was made; `version` is what is stored now (`None`: nothing is)."""

    version: Version | None


class Refused(Enum):
    """The change was not made."""

    CONFLICT = "conflict"
    """Another version is stored than the one expected."""
    LEASE_LOST = "lease lost"
    """The lease expired, and another holder may have taken the key."""


# Module-level names: until Python 3.12, looking up an enum member takes as long as a call.
PUT, DELETE, TOUCH, KEEP = Action
ANYTHING = Expect.ANYTHING
CONFLICT, LEASE_LOST = Refused


class Page(NamedTuple):
    """A part of an enumeration, and the cursor of the next one (`None`: this was the last)."""

    entries: Sequence[tuple[str, Record]]
    cursor: str | None


Outcome: TypeAlias = Committed | Refused | SessionError

RENAMED_OPTIONS = {
    "alone": "single_process",
    "busy_timeout": "retry_for",
    "patience": "retry_for",
    "timeout": "retry_for",
}
"""Former names of the back ends' options, and their present names, which the error proposes."""


class Storage(ABC):
    """Base of the back ends. All methods are safe to call concurrently; `open` and `close` may be called twice.

    A subclass must be able to take any string as a key, or refuse it with a `SessionKeyError` in its place in the
    result; it never maps two keys onto one. Errors of a driver are raised as `StorageError`, or as
    `StorageUnavailableError` where trying again later may help, after a bounded number of tries of its own that
    never make a change twice.

    A call that is cancelled ends with `CancelledError`, and what it was to do may be done or not. After `close` no task
    is left of it.
    """

    shared: ClassVar[bool] = True
    """Other processes can reach the same data. If not, the queue within the process is the only lock needed."""
    batch_size: ClassVar[int] = 500
    """The largest number of items in one call of the core."""
    batches_in_flight: ClassVar[int] = 1
    """The largest number of concurrent calls of one kind by the core."""
    verbatim: ClassVar[bool] = True
    """What is read is byte for byte what was written (a `jsonb` column, for one, is not verbatim)."""
    keeps_values: ClassVar[bool] = False
    """Stores values of any kind instead of bytes, as a user's own `StorageAdapter` does."""
    expiring: bool = True
    """Records can have a time to live."""
    single_process: bool = False
    """No other process uses the same data, so that leases may be kept for a moment: a chat's next update then begins
    without a round trip. SQLite detects this; servers cannot and take it as an option, for a bot that runs in one
    process. If another process connects all the same, nothing is lost; it waits up to two seconds for chats that were
    just busy. A write without locks, such as by `redis-cli`, goes unnoticed during that time, and the update that
    meets it ends with `SessionConflictError`. Chats that were busy when a process was killed stay locked until their
    lease ends, as if a handler had been running."""
    time_to_live: float | None = None
    """Time to live, in seconds, of the sessions of a manager without a `ttl` of its own."""

    is_open: bool = False

    if not TYPE_CHECKING:  # for editors, the constructor's signature is that of __init__

        def __new__(cls, *_: object, **options: object) -> Self:
            for old in RENAMED_OPTIONS.keys() & options.keys():
                known = signature_of(cls.__init__).parameters
                if old not in known and RENAMED_OPTIONS[old] in known:
                    raise TypeError(f"{cls.__name__} has no option {old!r}; it is named {RENAMED_OPTIONS[old]!r}")
            return super().__new__(cls)

    def now(self) -> float:
        """The time by which records expire, as Unix seconds."""
        return time.time()

    def lane_of(self, key: str) -> str:
        """The name of the part of the storage that serves a key, such as one server of a cluster.

        Keys of different lanes are never in one batch, so that a part that does not answer holds up only its own
        keys. A storage with one part does not override this.
        """
        return ""

    async def open(self) -> None:
        """Connect, and create or check the schema. Raises `StorageError` if that fails, with the reason."""
        self.is_open = True

    async def close(self) -> None:
        """Close every connection, thread and file that this object opened itself; `open` may follow."""
        self.is_open = False

    def forget(self, *, inherited: bool) -> None:
        """Drop everything that belongs to an event loop or process that no longer uses this object.

        That is every connection, thread, file, socket, task, future and name of a lock's holder. Called without a
        running event loop or from a new one; never waits and never fails. Afterwards `is_open` is `False`, and
        `open` starts from scratch, with new names and new randomness.

        A back end that owns such resources overrides this and calls it at the end.

        Args:
            inherited: the process is a forked child, and the parent still uses what was inherited: drop the
                references, and neither close nor write to anything. If `False`, the event loop was closed in this
                same process: resources may be closed, where that is possible without awaiting.
        """
        self.is_open = False

    @abstractmethod
    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        """Read keys without locking them.

        Args:
            keys: the keys, each at most once.

        Returns:
            In the order of the keys: the record, `None` where the storage says that there is none or where it
            expired, or the error that concerns only this key.
        """

    @abstractmethod
    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """Make changes, each atomically and independently of the others; durable when this returns.

        Args:
            changes: at most one for each key.

        Returns:
            In the order of the changes: the outcome of each.
        """

    @abstractmethod
    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        """Try to lock keys and read them in the same step; never waits for a holder.

        A key that is held, or that others have waited for longer, gives `None`, and the request stays in the
        key's queue for as long as it is repeated (see `wait_unlocked`). An expired lease counts as free.

        Args:
            requests: at most one for each key.

        Returns:
            In the order of the requests: the lock, `None` for "wait", or the error that concerns only this key.
        """

    @abstractmethod
    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        """Extend leases to `seconds` from now; `False` in the place of each that is lost."""

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:  # noqa: B027 - only queues need it
        """Withdraw requests that will not be repeated.

        Each leaves its key's queue. If it was granted meanwhile, its lock is released: this is how a lock is released
        when the answer with its lease was lost. A request that is neither waiting nor granted is ignored, and so is
        one whose lease has expired. Locks of other requests are never touched.

        Args:
            requests: at most one for each key, as they were given to `lock_many`.
        """

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        """Return when the request is worth another attempt; too early is fine, far too late is not.

        Args:
            request: the one that `lock_many` answered with `None`.
            attempt: how many times that has happened, from 0.
        """
        # The exponent is bounded, because 1.5 to the power of some thousand attempts is no float.
        await asyncio.sleep(min(0.002 * 1.5 ** min(attempt, 10), 0.025) * random.uniform(0.7, 1.0))

    @abstractmethod
    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        """Return one page of the unexpired records whose key starts with `prefix`.

        A key that exists during the whole enumeration is returned; one that is added or removed meanwhile may be.

        Args:
            prefix: the beginning of the keys; empty: all.
            cursor: from the previous page; `None`: start at the beginning.
            limit: about how many entries a page has.
        """

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        """Like `scan`, without the values; a back end that can do this without reading the values overrides it."""
        page = await self.scan(prefix, cursor, limit)
        return [key for key, _ in page.entries], page.cursor

    async def sweep(self, limit: int = 1000) -> int:
        """Delete at most `limit` expired records and return how many; 0 where the server expires them itself."""
        return 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class ImmediateStorage(Storage):
    """Base of the back ends whose calls never wait: one key at a time, and no coroutine for it.

    A subclass that overrides `read_many` or `commit_many` is called through these, like any other storage.
    """

    @abstractmethod
    def read(self, key: str) -> Record | None:
        """`read_many` for one key."""

    @abstractmethod
    def commit(self, change: Change) -> Outcome:
        """`commit_many` for one change."""

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
        return [self.read(key) for key in keys]

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        return [self.commit(change) for change in changes]
