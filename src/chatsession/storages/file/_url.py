"""From a `file:` URL to its storage."""

from __future__ import annotations

from typing import cast
from urllib.parse import SplitResult, unquote

from chatsession.errors import StorageError
from chatsession.storages.file._storage import FileStorage, Layout
from chatsession.storages.urls import flag, options


def from_url(parts: SplitResult) -> FileStorage:
    """`file:///absolute/folder` or `file:relative/folder`; options `layout=grammy`, `fsync=no`, `sweep_interval=60`."""
    if parts.netloc not in ("", "localhost"):
        raise StorageError("a file: URL names no host; write file:///absolute/folder or file:relative/folder")
    if parts.path in ("", "/"):
        raise StorageError("a file: URL must name a folder, as in file:///srv/bot/sessions")
    given = options(parts, {"layout", "fsync", "retry_for", "sweep_interval", "create"})
    fsync = {"yes": True, "true": True, "no": False, "false": False}.get(given.get("fsync", "yes").lower())
    if fsync is None:
        raise StorageError("fsync in a file: URL is yes or no")
    try:
        retry_for = float(given.get("retry_for", 10))
        sweep_interval = float(given.get("sweep_interval", 60))
    except ValueError:
        raise StorageError("retry_for and sweep_interval of the file: URL are a number of seconds each") from None
    return FileStorage(
        unquote(parts.path),
        layout=cast("Layout", given.get("layout", "chatsession")),  # FileStorage checks it
        fsync=fsync,
        retry_for=retry_for,
        sweep_interval=sweep_interval,
        create=flag(given, "create", True),
    )
