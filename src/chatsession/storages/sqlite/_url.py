"""From a `sqlite:` URL to its storage."""

from __future__ import annotations

from typing import cast
from urllib.parse import SplitResult, unquote

from chatsession.errors import StorageError
from chatsession.storages.sqlite._storage import SQLiteStorage, Synchronous
from chatsession.storages.urls import options


def from_url(parts: SplitResult) -> SQLiteStorage:
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, options behind a `?` as in `SQLiteStorage`."""
    if parts.netloc or len(parts.path) < 2:
        raise StorageError("the URL of an SQLite file is sqlite:///relative.db or sqlite:////absolute.db")
    given = options(parts, {"synchronous", "retry_for", "sweep_interval"})
    try:
        return SQLiteStorage(
            unquote(parts.path[1:]),
            synchronous=cast("Synchronous", given.get("synchronous", "normal").lower()),
            retry_for=float(given.get("retry_for", 10)),
            sweep_interval=float(given.get("sweep_interval", 60)),
        )
    except ValueError:
        raise StorageError("retry_for and sweep_interval of the sqlite: URL are numbers of seconds") from None
