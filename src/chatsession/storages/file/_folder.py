"""The sessions of one folder, for its worker threads: every call here may wait for the disk.

42/424242.json          a session, as its codec wrote it
42/424242.expires       a link that points to the time when it expires; only where it does
9f/=3b…9f.key           the key of a session whose key is too long for a file name
.chatsession/locks      who holds which key (see `_locks`)
.chatsession/wakes      a named pipe for each storage that has the folder open (see `_wakeups`)
.chatsession/drafts     files on their way to their places
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

from chatsession.errors import SessionError, StorageError
from chatsession.storages._shared.failures import without_failures
from chatsession.storages._shared.waiters import Waiting
from chatsession.storages.base import (
    CONFLICT,
    DELETE,
    KEEP,
    LEASE_LOST,
    PUT,
    TOUCH,
    Change,
    Committed,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Record,
)
from chatsession.storages.file import _disk
from chatsession.storages.file._errors import reason, storage_error
from chatsession.storages.file._listing import Listing
from chatsession.storages.file._locks import LockFiles, QueuedWaiter, Shard, exclusive, shard_of
from chatsession.storages.file._names import Names
from chatsession.storages.file._records import EXPIRES, KEY, VALUE, SessionFiles
from chatsession.storages.file._wakeups import Pipe, is_read, wake

Item = TypeVar("Item", LockRequest, Change, Lease)
Result = TypeVar("Result")


class Draft(NamedTuple):
    """A new value, written to a file that is to be renamed."""

    path: str
    error: SessionError | None = None


class SessionFolder:
    """A folder that one storage object has open.

    Args:
        root: the folder; created if it is missing.
        naming: how files are named.
        clock: returns Unix time in seconds.
        sync: whether what is committed must outlast a power cut.
        create: whether the folder may be created; if not, one that is not writable is only read.
        retry_for: seconds to wait for a lock file.

    Raises:
        StorageError: the folder cannot be created, or is not writable.
    """

    def __init__(
        self, root: Path, naming: Names, clock: Callable[[], float], *, sync: bool, create: bool, retry_for: float
    ) -> None:
        self._naming = naming
        self.files = SessionFiles(str(root), naming, clock, self._draft_path, sync=sync)
        self.listing = Listing(self.files, naming)
        self._clock = clock
        self._sync = sync
        self._retry_for = retry_for
        self._own = root / ".chatsession"
        self._wakeups = self._own / "wakes"
        self._drafts = self._own / "drafts"
        self._locks = LockFiles(self._own / "locks", clock, retry_for)
        self._numbers = count()
        self.pipe: Pipe | None = None
        """`None`: the folder is only read."""
        try:
            if not create:
                self._check_sessions()
            self._prepare(may_fail=not create)
            self._presence = self._own if self._own.is_dir() else root
            self._identity = _identity(self._presence)
            self._folds_case = os.path.exists(root / self._own.name.upper())
        except OSError as error:
            raise storage_error(error) from None

    def _prepare(self, *, may_fail: bool) -> None:
        """Create the subfolders, and remove what dead processes left behind."""
        try:
            for folder in (self._own / "locks", self._wakeups, self._drafts):
                folder.mkdir(parents=True, exist_ok=True)
            with exclusive(str(self._own / "opening"), self._retry_for):
                self._remove_leftovers()
                self.pipe = Pipe(self._wakeups)
        except OSError as error:
            if not may_fail or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise

    def _check_sessions(self) -> None:
        root = self.files.root
        if not os.path.isdir(root):
            raise StorageError(f"there is no folder {root}; nothing was created, see whether the path is right")
        files = (name for part in self.files.folders() for name in self.files.names_in(part, VALUE))
        if not self._own.is_dir() and next(files, None) is None:
            raise StorageError(
                f"the folder {root} holds no sessions; nothing was changed, see whether the path is right"
            )

    def read(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        """See `Storage.read_many`."""
        found = [_guarded(key, lambda key=key: self.files.load(self._name(key))) for key in keys]
        if None in found:
            self._check_presence()
        return found

    def lock(self, requests: Sequence[LockRequest]) -> Sequence[Locked | Waiting | SessionError]:
        """See `Storage.lock_many`, and `WaiterRegistry.answer`."""
        return self._each(requests, self._lock)

    def renew(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        """See `Storage.renew_many`."""
        results = self._each(
            leases,
            lambda shard, name, lease: shard.renew(name, lease.token, seconds, self._clock()),
        )
        return [result is True for result in without_failures(results)]

    def abandon(self, requests: Sequence[LockRequest]) -> None:
        """See `Storage.abandon_many`."""
        results = self._each(
            requests,
            lambda shard, name, request: shard.abandon(name, request.waiter, self._clock(), self._wake),
        )
        without_failures(results)

    def commit(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """See `Storage.commit_many`."""
        drafts = self._draft(changes)
        touched: defaultdict[str, list[str]] = defaultdict(list)
        try:
            outcomes = self._each(
                changes, lambda shard, name, change: self._commit(shard, name, change, drafts, touched)
            )
        finally:
            for draft in drafts.values():
                _disk.remove(draft.path)
                _disk.remove(draft.path + KEY)
        if not self._sync:
            return outcomes
        failures = {
            key: StorageError(f"{reason(error)} ({folder}); it is not known whether the change lasts", key=key)
            for folder, error in _disk.sync_folders(touched).items()
            for key in touched[folder]
        }
        return [failures.get(change.key, outcome) for change, outcome in zip(changes, outcomes, strict=True)]

    def sweep(self, part: str, limit: int) -> int:
        """Remove at most `limit` expired sessions from one of the folders, without reading them."""
        freed = 0
        for file in self.files.names_in(part, EXPIRES):
            name = self._naming.name_at(part, file)
            if freed < limit and self.files.has_expired(name):
                with self._locks.open(shard_of(name)):
                    freed += self.files.has_expired(name) and self.files.remove(name)
        return freed

    def _each(
        self, items: Sequence[Item], work: Callable[[Shard, str, Item], Result | SessionError]
    ) -> list[Result | SessionError]:
        """Call a function for each item and the name of its files, under the lock file that covers them."""
        results: dict[str, Result | SessionError] = {}
        groups: defaultdict[int, list[tuple[str, Item]]] = defaultdict(list)
        for item in items:
            try:
                name = self._name(item.key)
            except SessionError as error:
                results[item.key] = error
            else:
                groups[shard_of(name)].append((name, item))
        for number, group in groups.items():
            try:
                with self._locks.open(number) as shard:
                    self._check_presence()
                    for name, item in group:
                        results[item.key] = work(shard, name, item)
            except (OSError, StorageError) as error:
                for _, item in group:
                    # A change that was committed stays committed, even if its lock could not be released.
                    if not isinstance(results.get(item.key), Committed):
                        results[item.key] = storage_error(error, item.key)
        return [results[item.key] for item in items]

    def _lock(self, shard: Shard, name: str, request: LockRequest) -> Locked | Waiting | SessionError:
        now = self._clock()
        token = shard.take(name, QueuedWaiter(request.waiter, self._pipe_name, now), request.seconds, now)
        if token is None:
            return Waiting(shard.free_at(name))
        found = _guarded(request.key, lambda: self.files.load(name))
        if isinstance(found, SessionError):
            shard.release(name, self._wake)
            return found
        return Locked(Lease(request.key, token), found)

    def _commit(
        self,
        shard: Shard,
        name: str,
        change: Change,
        drafts: Mapping[str, Draft],
        touched: defaultdict[str, list[str]],
    ) -> Outcome:
        lease = change.lease
        if lease is not None and not shard.is_holder(name, lease.token, self._clock()):
            return LEASE_LOST
        outcome = _guarded(change.key, lambda: self._apply(name, change, drafts))
        if lease is not None and change.unlock:
            shard.release(name, self._wake)
        if isinstance(outcome, Committed) and change.action is not KEEP:
            touched[self.files.folder(name)].append(change.key)
        return outcome

    def _apply(self, name: str, change: Change, drafts: Mapping[str, Draft]) -> Outcome:
        stored = self.files.look(name)
        if not change.accepts(stored.version, self._clock()):
            return CONFLICT
        if change.action is KEEP:
            return Committed(stored.version)
        path = self.files.path(name) + VALUE
        if stored.stamp is not None and not os.access(path, os.R_OK):
            return StorageError(f"{path} cannot be read by this user, and is not overwritten", key=change.key)
        if change.action is DELETE:
            self.files.remove(name)
            return Committed(None)
        if change.action is TOUCH:
            self.files.touch(name, change.ttl, stored)
            return Committed(stored.version)
        draft = drafts[change.key]
        if draft.error is not None:
            return draft.error
        if stored.expired:
            self.files.remove(name)  # so that it does not come back if this process ends right here
        return Committed(self.files.put(name, change.value, draft.path, change.ttl, stored))

    def _draft(self, changes: Sequence[Change]) -> dict[str, Draft]:
        """Write the new values to the disk before any lock file is locked."""
        drafts = {change.key: Draft(self._draft_path()) for change in changes if change.action is PUT}
        files = [(drafts[change.key].path, change.value) for change in changes if change.key in drafts]
        files += [(draft.path + KEY, key.encode()) for key, draft in drafts.items() if self._is_long(key)]
        failures = _disk.draft_all(files, sync=self._sync)
        for key, draft in drafts.items():
            if error := failures.get(draft.path) or failures.get(draft.path + KEY):
                drafts[key] = Draft(draft.path, storage_error(error, key))
        return drafts

    def _check_presence(self) -> None:
        """Raise `StorageError` if the folder was removed or replaced, for example unmounted."""
        try:
            if _identity(self._presence) == self._identity:
                return
        except FileNotFoundError:
            pass
        raise StorageError(f"the folder {self.files.root} was removed or replaced while it was in use; open it again")

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left behind."""
        alive: set[str] = set()
        for name in os.listdir(self._wakeups):
            if is_read(self._wakeups / name):
                alive.add(name)
            else:
                _disk.remove(str(self._wakeups / name))
        for name in os.listdir(self._drafts):
            if name.partition("-")[0] not in alive:
                _disk.remove(str(self._drafts / name))

    @property
    def _pipe_name(self) -> str:
        return "" if self.pipe is None else self.pipe.name

    def _wake(self, waiter: QueuedWaiter) -> bool:
        return wake(self._wakeups / waiter.pipe, waiter.waiter)

    def _draft_path(self) -> str:
        return f"{self._drafts}/{self._pipe_name}-{next(self._numbers)}"

    def _name(self, key: str) -> str:
        if self._folds_case:
            self._naming.check_folded(key)
        return self._naming.name_of(key)

    def _is_long(self, key: str) -> bool:
        try:
            return self._naming.is_digest(self._naming.name_of(key))
        except SessionError:  # the outcome will say so
            return False


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _guarded(key: str, work: Callable[[], Result]) -> Result | SessionError:
    try:
        return work()
    except (OSError, SessionError) as error:
        return storage_error(error, key)
