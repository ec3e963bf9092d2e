"""From a `sqlite:` URL to its storage."""

from __future__ import annotations

from typing import cast
from urllib.parse import SplitResult, unquote

from chatsession.errors import StorageError
from chatsession.storages.sqlite._connection import Synchronous
from chatsession.storages.sqlite._storage import SQLiteStorage
from chatsession.storages.urls import flag, options


def from_url(parts: SplitResult) -> SQLiteStorage:
    """`sqlite:///relative.db`, `sqlite:bot.db` or `sqlite:////absolute.db`; options of `SQLiteStorage` behind a `?`."""
    # Behind `sqlite:///` stands a path; without slashes all of it is the path.
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path:
        raise StorageError("the URL of an SQLite file is sqlite:///relative.db or sqlite:////absolute.db")
    given = options(parts, {"synchronous", "retry_for", "sweep_interval", "create"})
    try:
        return SQLiteStorage(
            path,
            synchronous=cast("Synchronous", given.get("synchronous", "normal").lower()),
            retry_for=float(given.get("retry_for", 10)),
            sweep_interval=float(given.get("sweep_interval", 60)),
            create=flag(given, "create", True),
        )
    except ValueError:
        raise StorageError("retry_for and sweep_interval of the sqlite: URL are numbers of seconds") from None
