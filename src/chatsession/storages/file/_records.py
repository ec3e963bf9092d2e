"""The files of sessions, found by name; they are changed under the lock file that covers them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from chatsession.errors import StorageError
from chatsession.storages.base import Record, Version
from chatsession.storages.file import _disk
from chatsession.storages.file._names import Names

VALUE, EXPIRES, KEY = ".json", ".expires", ".key"


class Stored(NamedTuple):
    """What is stored under a name."""

    version: Version | None
    """`None`: nothing, or it has expired."""
    stamp: _disk.Stamp | None
    """The version of the file, expired or not."""
    limited: bool
    """Whether there is an expiry, even one that does not apply."""
    expired: bool


class SessionFiles:
    """Reads and writes the files of sessions.

    grammY (`naming.others_write`) takes no lock and writes its files in place. So a file is then read once it has
    stopped changing, its version is a digest of its contents, and an expiry applies only to what was written here.

    Args:
        root: the folder of all sessions.
        naming: how files are named.
        clock: returns Unix time in seconds.
        draft_path: returns a path for a file to be renamed later.
        sync: whether what is written must outlast a power cut.
    """

    def __init__(
        self, root: str, naming: Names, clock: Callable[[], float], draft_path: Callable[[], str], *, sync: bool
    ) -> None:
        self.root = root
        self._naming = naming
        self._clock = clock
        self._draft_path = draft_path
        self._sync = sync

    def folders(self) -> list[str]:
        """The names of the folders that may contain sessions, in order."""
        return sorted(name for name in os.listdir(self.root) if self._naming.is_folder(name))

    def names_in(self, folder: str, suffix: str) -> Iterator[str]:
        """The names of the files in one folder that end with `suffix`, without the suffix."""
        try:
            with os.scandir(f"{self.root}/{folder}") as entries:
                for entry in entries:
                    if entry.name.endswith(suffix):
                        yield entry.name[: -len(suffix)]
        except (FileNotFoundError, NotADirectoryError):
            return

    def folder(self, name: str) -> str:
        """The path of the folder that a session is in."""
        return f"{self.root}/{self._naming.folder_of(name)}"

    def path(self, name: str) -> str:
        """The path of a session's file, without the extension."""
        return f"{self.folder(name)}/{name.rpartition('/')[2]}"

    def load(self, name: str) -> Record | None:
        """Read one session. Raises `StorageError` or `OSError` if it is there and cannot be read."""
        path = self.path(name)
        # The expiry first: to store a value after an expiry, the old value is removed before the new time is set.
        expires_at = self._time(path, _disk.read_expiry(path + EXPIRES))
        if expires_at is not None and expires_at <= self._clock():
            return None
        found = self._read(path + VALUE)
        return None if found is None else Record(found[0], self._version(*found), expires_at)

    def look(self, name: str) -> Stored:
        """Look at what is stored now. Raises as `load` does."""
        path = self.path(name)
        stamp = version = None
        if not self._naming.others_write:
            stamp = version = _disk.look(path + VALUE)
        elif (found := self._read(path + VALUE)) is not None:
            stamp, version = found[1], self._version(*found)
        expiry = _disk.read_expiry(path + EXPIRES)
        expires_at = self._time(path, expiry)
        expired = expires_at is not None and expires_at <= self._clock()
        return Stored(None if expired else version, stamp, expiry is not None, expired)

    def has_expired(self, name: str) -> bool:
        """Whether a session has expired."""
        path = self.path(name)
        expires_at = self._time(path, _disk.read_expiry(path + EXPIRES))
        return expires_at is not None and expires_at <= self._clock()

    def key(self, name: str) -> str:
        """The key of a file found in the folder. Raises `StorageError` if it is not the file of a session."""
        path = self.path(name)
        key = self._naming.key_of(name)
        if key is None and self._naming.is_digest(name) and (found := _disk.read(path + KEY)) is not None:
            key = found[0].decode("utf-8", "replace")
        if key is None or self._naming.name_of(key) != name:
            raise StorageError(f"{path}{VALUE} is not the file of any key; move it out of the folder")
        return key

    def put(self, name: str, value: bytes, draft: str, ttl: float | None, stored: Stored) -> Version:
        """Rename a draft to the session's file, and return its version."""
        path = self.path(name)
        self._make_folder(os.path.dirname(path))
        stamp = _disk.newer_than(draft, stored.stamp)
        if self._naming.is_digest(name):
            os.rename(draft + KEY, path + KEY)
        self._set_expiry(path, ttl, stamp, stored)
        os.rename(draft, path + VALUE)
        return self._version(value, stamp)

    def touch(self, name: str, ttl: float | None, stored: Stored) -> None:
        """Restart a session's time to live."""
        if stored.stamp is not None and stored.version is not None:
            self._set_expiry(self.path(name), ttl, stored.stamp, stored)

    def remove(self, name: str) -> bool:
        """Remove a session; `False` if there was none."""
        path = self.path(name)
        there = _disk.remove(path + VALUE)
        _disk.remove(path + EXPIRES)
        if self._naming.is_digest(name):
            _disk.remove(path + KEY)
        return there

    def _set_expiry(self, path: str, ttl: float | None, stamp: _disk.Stamp, before: Stored) -> None:
        if ttl is not None:
            expiry = _disk.Expiry(self._clock() + ttl, stamp.mtime_ns if self._naming.others_write else None)
            _disk.write_expiry(path + EXPIRES, self._draft_path(), expiry)
        elif before.limited:
            _disk.remove(path + EXPIRES)

    def _time(self, path: str, expiry: _disk.Expiry | None) -> float | None:
        """When what is stored expires: never, if others have written the file since."""
        if expiry is None or expiry.mtime_ns is None:
            return expiry and expiry.at
        return expiry.at if _disk.mtime_of(path + VALUE) in (None, expiry.mtime_ns) else None

    def _read(self, path: str) -> tuple[bytes, _disk.Stamp] | None:
        return _disk.read_settled(path) if self._naming.others_write else _disk.read(path)

    def _version(self, value: bytes, stamp: _disk.Stamp) -> Version:
        """Others may write twice within one tick of the file system's clock, but then not the same."""
        return blake2b(value, digest_size=16).digest() if self._naming.others_write else stamp

    def _make_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        os.makedirs(folder, exist_ok=True)
        if self._sync:
            for error in _disk.sync_folders([self.root]).values():
                raise error
