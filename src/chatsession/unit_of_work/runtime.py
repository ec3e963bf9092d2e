"""A manager at work: its options made ready, its life, and how many of its sessions are open."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from chatsession.coordination.coordinator import Coordinator, coordinator_of
from chatsession.errors import SessionClosedError, SessionError, shown
from chatsession.options import SessionOptions
from chatsession.serialization.serializer import Serializer
from chatsession.storages import Action, Change, Record, Storage
from chatsession.unit_of_work.outbox import Outgoing
from chatsession.unit_of_work.prefixes import PREFIXES, write_down

T = TypeVar("T")

_log = logging.getLogger("chatsession")

QUARANTINE = "!quarantine:"
"""Begins the keys under which undecodable data is set aside."""
MOVED = "!moved:"
"""Begins the keys under which the data of a chat is set aside that moved to where there was some already."""
POLLING = "!polling:"
"""Begins the keys of what polling counts."""
SET_ASIDE = "!update:"
"""Begins the keys of updates that have taken the process down, and were set aside."""
RESERVED = (QUARANTINE, MOVED, POLLING, SET_ASIDE, PREFIXES)
"""What is stored under these is not a session, and is not enumerated."""


class Runtime(Generic[T]):
    """What the sessions of one manager share.

    Args:
        options: of the manager.
        storage: where the sessions are kept.

    Raises:
        SessionError: an option needs more than the storage can do.
    """

    __slots__ = (
        "__weakref__",
        "_all_left",
        "_closed",
        "_on_decode_error",
        "_prefix_known",
        "_users",
        "active",
        "coordinator",
        "deduplicate",
        "epoch",
        "exclusive",
        "lock_lease",
        "lock_timeout",
        "loop",
        "merge",
        "outgoing",
        "prefix",
        "serializer",
        "sliding",
        "ttl",
        "unchecked",
        "writes_unread",
    )

    def __init__(self, options: SessionOptions[T], storage: Storage) -> None:
        adapter = storage.keeps_values
        if options.ttl and not storage.expiring:
            raise SessionError(
                f"ttl needs a storage with expiry, which {storage!r} has not; let the adapter expire its data itself"
            )
        self.coordinator: Coordinator = coordinator_of(storage)
        self.ttl: float | None = options.ttl_seconds or storage.time_to_live
        self.serializer: Serializer[T] = Serializer(options, storage, self.ttl)
        self.prefix: str = options.prefix
        self.exclusive: bool = options.concurrency == "exclusive"
        self.unchecked: bool = options.concurrency == "last-write-wins" or (adapter and self.exclusive)
        """Commits are made whatever is stored."""
        self.writes_unread: bool = adapter and self.unchecked
        """A value that was assigned can be written without a read: nothing of what is stored has to be kept."""
        self.lock_timeout: float | None = options.lock_timeout
        self.lock_lease: float = float(options.lock_lease)
        self.sliding: bool = options.expiry == "sliding"
        self.deduplicate: bool = options.deduplicate > 0
        self.merge: Callable[[T, T], T] | None = options.merge
        self.outgoing: Outgoing = Outgoing()
        """What `after_commit` was given, and is not sent yet."""
        self._on_decode_error = options.on_decode_error
        self.active: int = 0
        """Sessions that are open."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop in which sessions may begin; `None` before the start and after the end."""
        self.epoch: int = 0
        """Changes when the sessions that are open are left behind in another event loop or process."""
        self._users: set[object] = set()
        self._all_left: asyncio.Future[None] | None = None
        self._closed = False
        self._prefix_known = False

    async def enter_loop(self) -> None:
        """Be connected in the running event loop; raises as `admit`."""
        if self.loop is not asyncio.get_running_loop():
            await self.admit()

    async def admit(self, key: str | None = None) -> None:
        """Let a session begin in this event loop: connect if that was not done.

        Raises:
            SessionClosedError: the manager is closed.
            SessionError: another event loop is using the manager.
        """
        if not self._closed:
            await self.start()
        if self._closed:  # before, or while the storage was opened
            raise SessionClosedError(
                "its manager is closed; open the session before aclose(), or start the manager again", key=key
            )

    def leave(self) -> None:
        """Count a session as closed; whoever lets one begin adds it to `active`."""
        self.active -= 1
        if self._all_left is not None and self.active == 0:
            self._all_left.set_result(None)
            self._all_left = None

    async def start(self, user: object = None) -> None:
        """Connect, and let sessions be opened (again).

        Args:
            user: a bot or an application that uses the manager until it calls `release`.
        """
        self._closed = False
        await self.coordinator.lifecycle.join(self)
        if self.prefix and self.serializer.pipeline is not None and not self._prefix_known:
            await write_down(self.coordinator, self.prefix)
            self._prefix_known = True
        if user is not None:
            self._users.add(user)
        if not self._closed:
            self.loop = asyncio.get_running_loop()

    async def release(self, user: object, timeout: float) -> int:
        """One that started the manager uses it no more; the last of them closes it. Returns as `stop`."""
        self._users.discard(user)
        return 0 if self._users else await self.stop(timeout)

    async def stop(self, timeout: float) -> int:
        """Let no session begin any more, wait for those that are open, disconnect from the storage.

        Args:
            timeout: seconds to wait for open sessions at most.

        Returns:
            How many sessions were still open after that.
        """
        self._closed = True
        self._users.clear()
        self.coordinator.lifecycle.enter_loop()
        self.loop = None
        if self.active:
            self._all_left = self._all_left or asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_left], timeout=timeout)
        await self.coordinator.lifecycle.part(self)
        return self.active

    def leave_loop(self) -> None:
        """Forget the sessions of an event loop that has ended, or of the process from which this one was forked."""
        self.loop = None
        self.epoch += 1
        self.active = 0
        self.outgoing.clear()
        self._all_left = None
        self._users.clear()

    async def set_aside(self, key: str, record: Record, error: SessionError) -> None:
        """Do with undecodable data what the user chose: raise, or return after it is out of the way."""
        if self._on_decode_error == "raise":
            raise error
        if self._on_decode_error == "quarantine":
            aside = aside_key(QUARANTINE, key, record.value)
            await self.coordinator.commit(Change(aside, Action.PUT, record.value))
            _log.error("%s; it was set aside under %s, and the session starts afresh", error, shown(aside))
        else:
            _log.error("%s; the session starts afresh, as on_decode_error='reset' says", error)


def aside_key(kind: str, key: str, data: bytes) -> str:
    """Where data is set aside: other data of the same key has another place, and the same data only one."""
    return f"{kind}{hashlib.sha256(data).hexdigest()[:16]}:{key}"
