"""Translates errors of NATS and its driver into errors of this library.

The texts of the driver are left out, because they may contain a URL with a password.
"""

from __future__ import annotations

import re

import nats.errors

from chatsession.errors import SessionTooLargeError, StorageError, StorageUnavailableError
from chatsession.storages.base import Change

_REFUSALS = ("authorization", "authentication", "permissions", "nkey", "user account")
_FORBIDDEN = re.compile('permissions violation for (publish|subscription) to "([^"]*)"')


def is_refusal(error: Exception) -> bool:
    """Whether the server refuses this user."""
    return isinstance(error, nats.errors.Error) and any(word in str(error).lower() for word in _REFUSALS)


def connection_error(error: Exception | None, shown: str) -> StorageError:
    """Why no connection was made."""
    if error is not None and is_refusal(error):
        return StorageError(f"NATS at {shown} refuses these credentials; check user, password or credentials file")
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
        return StorageError("the credentials file for NATS does not exist, or cannot be read")
    why = "" if error is None else f" ({type(error).__name__})"
    return StorageUnavailableError(f"NATS at {shown} cannot be reached{why}; is the server running?")


def forbidden(error: Exception) -> tuple[str, str] | None:
    """What the server forbids this user: `publish` or `subscription`, and the subject in lower case."""
    found = _FORBIDDEN.search(str(error))
    return None if found is None else (found[1], found[2])


def of_key(error: StorageError, key: str) -> StorageError:
    """An error that concerns one key of a batch."""
    return type(error)(str(error), key=key)


def too_large(change: Change, largest: int) -> SessionTooLargeError:
    """The error for a session that does not fit into one message."""
    return SessionTooLargeError(
        f"{len(change.value):,} bytes are more than the NATS server takes ({largest:,}); nothing was written; "
        "make it smaller, or raise the server's max_payload",
        key=change.key,
    )
