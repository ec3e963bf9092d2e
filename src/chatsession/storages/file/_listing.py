"""Enumerates the sessions of a folder, in order and in pages, so that an enumeration can continue anywhere."""

from __future__ import annotations

import heapq
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages.base import Page, Record
from chatsession.storages.file._errors import storage_error
from chatsession.storages.file._names import Names
from chatsession.storages.file._records import VALUE, SessionFiles
from chatsession.storages.inspection import Fact

_log = logging.getLogger("chatsession")

WINDOW = 20_000
"""The most names that an enumeration holds, however many files one folder has."""
_MOST_WINDOWS = 8


class _Window(NamedTuple):
    """The next names of a folder."""

    names: list[str]
    last: bool
    """Whether no names follow."""


class Listing:
    """The sessions of a folder in pages.

    Args:
        files: of the sessions.
        naming: how they are named.
    """

    def __init__(self, files: SessionFiles, naming: Names) -> None:
        self._files = files
        self._naming = naming
        self._windows: dict[tuple[str, str], _Window] = {}

    def page(self, prefix: str, cursor: str | None, limit: int) -> Page:
        """See `Storage.scan`."""
        names, following = self._after(cursor, limit)
        entries: list[tuple[str, Record]] = []
        for name in names:
            with _left_out():
                key = self._files.key(name)
                if key.startswith(prefix) and (record := self._files.load(name)) is not None:
                    entries.append((key, record))
        return Page(entries, following)

    def keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        """See `Storage.scan_keys`."""
        names, following = self._after(cursor, limit)
        keys: list[str] = []
        for name in names:
            with _left_out():
                if (key := self._files.key(name)).startswith(prefix) and not self._files.has_expired(name):
                    keys.append(key)
        return keys, following

    def unreadable(self) -> Iterator[Fact]:
        """See `ListsUnreadable.list_unreadable`."""
        for folder in self._files.folders():
            for file in self._files.names_in(folder, VALUE):
                if not self._belongs(folder, file):
                    path = f"{folder}/{file}{VALUE}"
                    yield Fact(path, "it is in a folder where no session of this name is kept; move it away")
        cursor: str | None = ""
        while cursor is not None:
            names, cursor = self._after(cursor, 1000)
            for name in names:
                try:
                    self._files.key(name)
                    self._files.load(name)
                except (StorageError, PermissionError) as error:
                    path = os.path.relpath(self._files.path(name) + VALUE, self._files.root)
                    yield Fact(path, str(storage_error(error)))

    def _after(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """At most `limit` names after a cursor, and the next cursor (`None`: these were the last)."""
        started, _, last = (cursor or "/").partition("/")
        found: list[str] = []
        for folder in self._files.folders():
            if folder < started:
                continue
            if folder != started:
                last = ""
            while files := self._next(folder, last, limit - len(found)):
                found += [self._naming.name_at(folder, file) for file in files]
                last = files[-1]
                if len(found) >= limit:
                    return found, f"{folder}/{last}"
        return found, None

    def _next(self, folder: str, last: str, limit: int) -> list[str]:
        window = self._windows.pop((folder, last), None) or self._window(folder, last)
        names, rest = window.names[:limit], window.names[limit:]
        if names and (rest or window.last):
            self._windows[folder, names[-1]] = _Window(rest, window.last)
        for oldest in list(self._windows)[:-_MOST_WINDOWS]:  # a copy, since several threads enumerate at a time
            self._windows.pop(oldest, None)
        return names

    def _window(self, folder: str, last: str) -> _Window:
        files = (name for name in self._files.names_in(folder, VALUE) if name > last)
        names = heapq.nsmallest(WINDOW, (name for name in files if self._belongs(folder, name)))
        return _Window(names, len(names) < WINDOW)

    def _belongs(self, folder: str, name: str) -> bool:
        right = self._naming.folder_of(self._naming.name_at(folder, name))
        return right == folder or right.lower() == folder.lower()  # a file system may fold case


@contextmanager
def _left_out() -> Generator[None]:
    """Leave a file that cannot be read out of an enumeration, and log it."""
    try:
        yield
    except StorageUnavailableError:
        raise
    except (StorageError, PermissionError) as error:
        _log.warning("a file is left out: %s", storage_error(error))
