"""Reads `mongodb://…` and `mongodb+srv://…` URLs, with options of this storage and of pymongo."""

from __future__ import annotations

import warnings
from typing import cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode

from pymongo.errors import ConfigurationError
from pymongo.uri_parser import validate_options

from chatsession.errors import StorageError
from chatsession.storages.mongo._records import LayoutName
from chatsession.storages.mongo._storage import MongoStorage
from chatsession.storages.urls import flag, options, positive

_OURS = {"collection", "create", "layout", "retry_for", "single_process", "time_to_live"}


def from_url(parts: SplitResult) -> MongoStorage:
    """`mongodb://user:password@host:port/database?…`, with pymongo's options and those of `MongoStorage`."""
    database = unquote(parts.path.removeprefix("/"))
    if not database:
        raise StorageError(f"the {parts.scheme}: URL names no database; write {parts.scheme}://host/DATABASE")
    theirs = [(name, value) for name, value in parse_qsl(parts.query, True) if name not in _OURS]
    given = options(parts, _OURS | {name for name, value in theirs if _is_known(name, value)})
    return MongoStorage(
        parts._replace(query=urlencode(theirs)).geturl(),
        collection=given.get("collection", "sessions"),
        layout=cast("LayoutName", given.get("layout", "chatsession")),  # MongoStorage checks it
        create=flag(given, "create", default=True),
        retry_for=positive(given, "retry_for") or 10.0,
        time_to_live=positive(given, "time_to_live"),
        single_process=flag(given, "single_process"),
    )


def _is_known(name: str, value: str) -> bool:
    """Whether pymongo has this option. Raises `StorageError` if it does not take the value."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pymongo only warns of an option whose value is wrong
        try:
            validate_options({name: value}, warn=False)
        except ConfigurationError:
            return False
        except (Warning, ValueError, TypeError, KeyError, OSError):  # also for a file that cannot be read
            raise StorageError(f"{name} in the URL has a value that pymongo does not take") from None
    return True
