"""Enumerates the session files of a folder, in order and in pages, so that an enumeration can continue anywhere."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from typing import NamedTuple

from chatsession.storages.file._names import Names

WINDOW = 20_000
"""The most names that an enumeration holds, however many files one folder has."""
_MOST_WINDOWS = 8


class _Window(NamedTuple):
    """The next names of a folder."""

    names: list[str]
    last: bool
    """Whether no names follow."""


class Listing:
    """Returns the names of files in pages.

    Args:
        root: the folder of all sessions.
        naming: how files are named.
        suffix: what file names must end with; it is removed.
    """

    def __init__(self, root: str, naming: Names, suffix: str) -> None:
        self._root = root
        self._naming = naming
        self._suffix = suffix
        self._windows: dict[tuple[str, str], _Window] = {}

    def after(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """At most `limit` names after a cursor, and the next cursor (`None`: these were the last)."""
        started, _, last = (cursor or "/").partition("/")
        found: list[str] = []
        for folder in folders(self._root, self._naming):
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
        files = (name for name in names_in(self._root, folder, self._suffix) if name > last)
        names = heapq.nsmallest(WINDOW, (name for name in files if self._belongs(folder, name)))
        return _Window(names, len(names) < WINDOW)

    def misplaced(self) -> Iterator[str]:
        """Files in a folder where no session of their name is kept, by their paths within the root."""
        for folder in folders(self._root, self._naming):
            for name in names_in(self._root, folder, self._suffix):
                if not self._belongs(folder, name):
                    yield f"{folder}/{name}{self._suffix}"

    def _belongs(self, folder: str, name: str) -> bool:
        right = self._naming.folder_of(self._naming.name_at(folder, name))
        return right == folder or right.lower() == folder.lower()  # a file system may fold case


def folders(root: str, naming: Names) -> list[str]:
    """The folders of sessions, in order."""
    return sorted(name for name in os.listdir(root) if naming.is_folder(name))


def names_in(root: str, folder: str, suffix: str) -> Iterator[str]:
    """The names of the files in one folder that end with `suffix`, without the suffix."""
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    yield entry.name[: -len(suffix)]
    except (FileNotFoundError, NotADirectoryError):
        return
