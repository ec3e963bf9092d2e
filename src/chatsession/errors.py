"""The errors of the library. Each says what happened, to which key, and what to do next.

No message ever contains session data or credentials.
"""

from __future__ import annotations

_LONGEST_SHOWN_KEY = 80


class SessionError(Exception):
    """Base of every error that this library raises.

    Attributes:
        key: the session's key, or `None` if the error is not about a single session.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message if key is None else f"session {shown(key)}: {message}")
        self.key = key


class SessionKeyError(SessionError):
    """There is no usable key: the update has no chat, the key function returned `None`, or the key cannot be stored."""


class SessionNameError(SessionError, ValueError):
    """Handlers get something else under the name of the session; the manager needs another `name`."""


class SessionConflictError(SessionError):
    """The session was changed elsewhere since it was loaded, or its lock was lost; nothing was written."""


class SessionLockTimeoutError(SessionError, TimeoutError):
    """The key stayed locked, without progress, for longer than `lock_timeout`."""


class SessionClosedError(SessionError):
    """The session (or its manager) was used after its end; the change would have been lost."""


class SessionEncodeError(SessionError):
    """The value cannot be encoded, or would not come back equal; nothing was written."""


class SessionDecodeError(SessionError):
    """The stored data does not fit the session's type; it stays in the storage as it is."""


class SessionDecryptError(SessionDecodeError):
    """The stored data cannot be decrypted with the given keys; it stays as it is, whatever `on_decode_error` says."""


class SessionTooLargeError(SessionError):
    """The encoded session is larger than `max_size`, or than the storage takes; nothing was written."""


class SessionMigrationError(SessionError):
    """The stored data cannot be migrated to the newest version; it stays in the storage as it is."""


class SessionActionError(SessionError):
    """The argument of `after_commit` is not an action or cannot be stored, or there is no update."""


class SessionUnsentError(SessionError):
    """The session is committed, but an action of `after_commit` could not be sent yet; it is stored with the session.

    When Telegram delivers the update again, the stored action is sent, and the handler does not run again.
    """


class StorageError(SessionError):
    """The storage refused an operation or failed; what is stored has not changed."""


class StorageUnavailableError(StorageError, ConnectionError):
    """The storage cannot be reached, or did not recover within the time for retries."""


def shown(key: str) -> str:
    """A key as it may appear in a message: quoted, control characters escaped, cut when very long."""
    if len(key) <= _LONGEST_SHOWN_KEY:
        return repr(key)
    return f"{key[:_LONGEST_SHOWN_KEY]!r}… ({len(key)} characters)"
