"""The sessions of one folder, as its worker threads see them: every call here may wait for the disk.

42/424242.json          a session, as its codec wrote it
42/424242.expires       a link that points to the time when it expires; only where it does
9f/=3b…9f.key           the key of a session whose key is too long for a file name
.chatsession/locks      who holds which key (see `_locks`)
.chatsession/wakes      a named pipe for each storage that has the folder open (see `_wakes`)
.chatsession/drafts     files on their way to their places
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

from chatsession.errors import SessionError, StorageError
from chatsession.storages._base import (
    Action,
    Change,
    Committed,
    Expect,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Record,
    Refused,
)
from chatsession.storages.file import _disk, _names
from chatsession.storages.file._locks import SHARDS, LockFiles, Shard, Wish, alone
from chatsession.storages.file._wakes import Pipe, is_read, wake

VALUE, EXPIRES, KEY = ".json", ".expires", ".key"

Item = TypeVar("Item", LockRequest, Change, Lease)
Result = TypeVar("Result")


class Waiting(NamedTuple):
    """Not locked; it is worth another try when woken, or at this time, when the holder's lease ends."""

    until: float


class Draft(NamedTuple):
    """A value on its way to its place."""

    path: str
    error: SessionError | None = None


class SessionFolder:
    """Opens a folder for one storage object.

    Args:
        root: the folder; made where it is missing.
        clock: gives the time as Unix seconds.
        sync: whether what is committed must outlast a power cut.

    Raises:
        StorageError: the folder cannot be made, or not be written to.
    """

    def __init__(self, root: Path, clock: Callable[[], float], *, sync: bool) -> None:
        self.root = str(root)
        self._clock = clock
        self._sync = sync
        self._own = root / ".chatsession"
        self._wakes = self._own / "wakes"
        self._drafts = self._own / "drafts"
        self._locks = LockFiles(self._own / "locks", clock)
        self._numbers = count()
        try:
            for folder in (self._own / "locks", self._wakes, self._drafts):
                folder.mkdir(parents=True, exist_ok=True)
            with alone(self._own / "opening"):
                self._clear_up_after_the_dead()
                self.pipe = Pipe(self._wakes)
            self._identity = os.stat(self._own).st_ino
        except OSError as error:
            raise _disk.storage_error(error) from None

    def read(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        """As `Storage.read_many`."""
        found = [_guarded(key, lambda key=key: self.load(_names.name_of(key))) for key in keys]
        if None in found:
            self._check_presence()
        return found

    def lock(self, requests: Sequence[LockRequest]) -> Sequence[Locked | Waiting | SessionError]:
        """As `Storage.lock_many`, with a word on when to try again in place of `None`."""
        return self._each(requests, self._lock)

    def renew(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        """As `Storage.renew_many`."""
        until_then = self._each(
            leases,
            lambda shard, lease: shard.renew(_names.name_of(lease.key), lease.token, seconds, self._clock()),
        )
        for result in until_then:
            if isinstance(result, SessionError):
                raise result
        return [result is True for result in until_then]

    def abandon(self, requests: Sequence[LockRequest]) -> None:
        """As `Storage.abandon_many`."""
        self._each(
            requests,
            lambda shard, wish: shard.abandon(_names.name_of(wish.key), wish.waiter, self._clock(), self._wake),
        )

    def commit(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """As `Storage.commit_many`."""
        drafts = self._draft(changes)
        touched: defaultdict[str, list[str]] = defaultdict(list)
        try:
            outcomes = self._each(
                changes, lambda shard, change: self._commit(shard, change, drafts.get(change.key), touched)
            )
        finally:
            for draft in drafts.values():
                _disk.remove(draft.path)
                _disk.remove(draft.path + KEY)
        if not self._sync:
            return outcomes
        failures = {
            key: StorageError(f"{_disk.reason(error)} ({folder}); it is not known whether the change lasts", key=key)
            for folder, error in _disk.sync_folders(touched).items()
            for key in touched[folder]
        }
        return [failures.get(change.key, outcome) for change, outcome in zip(changes, outcomes, strict=True)]

    def load(self, name: str) -> Record | None:
        """Read one session. Raises `StorageError` or `OSError` if it is there and cannot be read."""
        path = self._path(name)
        # The expiry first: whoever stores anew after an expiry removes the old value before setting the new time.
        expires_at = _disk.read_expiry(path + EXPIRES)
        if expires_at is not None and expires_at <= self._clock():
            return None
        found = _disk.read(path + VALUE)
        return None if found is None else Record(*found, expires_at)

    def has_expired(self, name: str) -> bool:
        """Has this session expired?"""
        expires_at = _disk.read_expiry(self._path(name) + EXPIRES)
        return expires_at is not None and expires_at <= self._clock()

    def key(self, name: str) -> str:
        """The key of a file found in the folder. Raises `StorageError` if it is none of ours."""
        path = self._path(name)
        key = _names.key_of(name)
        if key is None and _names.is_digest(name) and (found := _disk.read(path + KEY)) is not None:
            key = found[0].decode("utf-8", "replace")
        if key is None or _names.name_of(key) != name:
            raise StorageError(f"{path}{VALUE} is not the file of any key; move it out of the folder")
        return key

    def remove_expired(self, name: str) -> bool:
        """Remove a session if it has expired, without reading it."""
        with self._locks.open(_names.shard_of(name, SHARDS)):
            return self.has_expired(name) and self._remove(self._path(name))

    def _each(
        self, items: Sequence[Item], work: Callable[[Shard, Item], Result | SessionError]
    ) -> list[Result | SessionError]:
        """Do some work for each item, having the lock file that guards its key."""
        results: dict[str, Result | SessionError] = {}
        groups: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            try:
                groups[_names.shard_of(_names.name_of(item.key), SHARDS)].append(item)
            except SessionError as error:
                results[item.key] = error
        for number, group in groups.items():
            try:
                with self._locks.open(number) as shard:
                    self._check_presence()
                    for item in group:
                        results[item.key] = work(shard, item)
            except (OSError, StorageError) as error:
                for item in group:
                    # What was committed stays so, even if then the lock could not be given back.
                    if not isinstance(results.get(item.key), Committed):
                        results[item.key] = _of_key(error, item.key)
        return [results[item.key] for item in items]

    def _lock(self, shard: Shard, request: LockRequest) -> Locked | Waiting | SessionError:
        key = request.key
        name, now = _names.name_of(key), self._clock()
        token = shard.take(name, Wish(request.waiter, self.pipe.name, now), request.seconds, now)
        if token is None:
            return Waiting(shard.free_at(name))
        found = _guarded(key, lambda: self.load(name))
        if isinstance(found, SessionError):
            shard.release(name, self._wake)
            return found
        return Locked(Lease(key, token), found)

    def _commit(
        self, shard: Shard, change: Change, draft: Draft | None, touched: defaultdict[str, list[str]]
    ) -> Outcome:
        name, lease = _names.name_of(change.key), change.lease
        if lease is not None and not shard.is_holder(name, lease.token, self._clock()):
            return Refused.LEASE_LOST
        try:
            outcome = _guarded(change.key, lambda: self._apply(name, change, draft))
        finally:
            if lease is not None and change.unlock:
                shard.release(name, self._wake)
        if isinstance(outcome, Committed) and change.action is not Action.KEEP:
            touched[self._folder(name)].append(change.key)
        return outcome

    def _apply(self, name: str, change: Change, draft: Draft | None) -> Outcome:
        path, now = self._path(name), self._clock()
        stored = _disk.look(path + VALUE)
        expires_at = _disk.read_expiry(path + EXPIRES)
        expired = expires_at is not None and expires_at <= now
        version = None if expired else stored
        if change.expect is not Expect.ANYTHING and change.expect != version:
            return Refused.CONFLICT
        if change.action is Action.KEEP:
            return Committed(version)
        if stored is not None and not os.access(path + VALUE, os.R_OK):
            return StorageError(f"{path}{VALUE} cannot be read by this user, and is not overwritten", key=change.key)
        if change.action is Action.DELETE:
            self._remove(path)
            return Committed(None)
        if change.action is Action.TOUCH:
            if version is not None:
                self._set_expiry(path, change.ttl, expires_at)
            return Committed(version)
        if draft is None or draft.error is not None:
            return (draft and draft.error) or StorageError("it was not written", key=change.key)
        if expired:
            self._remove(path)  # so that nothing that expired comes back, should this process end right here
        return Committed(self._put(path, change.ttl, None if expired else expires_at, draft.path, stored))

    def _put(
        self, path: str, ttl: float | None, expires_at: float | None, draft: str, stored: _disk.Stamp | None
    ) -> _disk.Stamp:
        self._make_folder(path)
        stamp = _disk.newer_than(draft, stored)
        if _names.is_digest(os.path.basename(path)):
            os.rename(draft + KEY, path + KEY)
        self._set_expiry(path, ttl, expires_at)
        os.rename(draft, path + VALUE)
        return stamp

    def _set_expiry(self, path: str, ttl: float | None, before: float | None) -> None:
        if ttl is not None:
            _disk.write_expiry(path + EXPIRES, self._draft_path(), self._clock() + ttl)
        elif before is not None:
            _disk.remove(path + EXPIRES)

    def _remove(self, path: str) -> bool:
        there = _disk.remove(path + VALUE)
        _disk.remove(path + EXPIRES)
        if _names.is_digest(os.path.basename(path)):
            _disk.remove(path + KEY)
        return there

    def _draft(self, changes: Sequence[Change]) -> dict[str, Draft]:
        """Write the new values to the disk, before any lock file is taken."""
        drafts = {change.key: Draft(self._draft_path()) for change in changes if change.action is Action.PUT}
        files = [(drafts[change.key].path, change.value) for change in changes if change.key in drafts]
        files += [(draft.path + KEY, key.encode("utf-8", "replace")) for key, draft in drafts.items() if _is_long(key)]
        failures = _disk.draft_all(files, sync=self._sync)
        for key, draft in drafts.items():
            if error := failures.get(draft.path) or failures.get(draft.path + KEY):
                drafts[key] = Draft(draft.path, _disk.storage_error(error, key))
        return drafts

    def _make_folder(self, path: str) -> None:
        folder = os.path.dirname(path)
        if os.path.isdir(folder):
            return
        os.makedirs(folder, exist_ok=True)
        if self._sync:
            for error in _disk.sync_folders([self.root]).values():
                raise error

    def _check_presence(self) -> None:
        """What is not found is only missing if the folder is there: it may have been unmounted."""
        try:
            if os.stat(self._own).st_ino == self._identity:
                return
        except FileNotFoundError:
            pass
        raise StorageError(f"the folder {self.root} was removed or replaced while it was in use; open it again")

    def _clear_up_after_the_dead(self) -> None:
        """Remove what processes left behind that were killed."""
        alive: set[str] = set()
        for name in os.listdir(self._wakes):
            if is_read(self._wakes / name):
                alive.add(name)
            else:
                _disk.remove(str(self._wakes / name))
        for name in os.listdir(self._drafts):
            if name.partition("-")[0] not in alive:
                _disk.remove(str(self._drafts / name))

    def _wake(self, wish: Wish) -> bool:
        return wake(self._wakes / wish.pipe, wish.waiter)

    def _draft_path(self) -> str:
        return f"{self._drafts}/{self.pipe.name}-{next(self._numbers)}"

    def _folder(self, name: str) -> str:
        return f"{self.root}/{_names.folder_of(name)}"

    def _path(self, name: str) -> str:
        return f"{self.root}/{_names.folder_of(name)}/{name}"


def _is_long(key: str) -> bool:
    try:
        return _names.is_digest(_names.name_of(key))
    except SessionError:  # the outcome will say so
        return False


def _guarded(key: str, work: Callable[[], Result]) -> Result | SessionError:
    try:
        return work()
    except (OSError, SessionError) as error:
        return _of_key(error, key)


def _of_key(error: OSError | SessionError, key: str) -> SessionError:
    if isinstance(error, OSError):
        return _disk.storage_error(error, key)
    return error if error.key is not None else type(error)(str(error), key=key)
