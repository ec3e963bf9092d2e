"""The errors of the library: each says what happened, to which key, and what to do next.

No message ever contains session data or credentials.
"""

from __future__ import annotations

_LONGEST_SHOWN_KEY = 80


class SessionError(Exception):
    """Base of every error that this library raises.

    Attributes:
        key: the session key that the error is about, or `None` when it is about no single key.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message if key is None else f"session {shown(key)}: {message}")
        self.key = key


class SessionKeyError(SessionError):
    """There is no usable key: the update has no chat, the key function returned `None`, or the key is not storable."""


class SessionNameError(SessionError, ValueError):
    """Handlers would get two different things under the name of the session; the manager needs another `name`."""


class SessionConflictError(SessionError):
    """Somebody else changed the session since it was loaded, or took its lock over; nothing was written."""


class SessionLockTimeoutError(SessionError, TimeoutError):
    """The key stayed locked by others for longer than `lock_timeout`."""


class SessionClosedError(SessionError):
    """The session (or its manager) is used after its end; the change would have been lost."""


class SessionEncodeError(SessionError):
    """The value cannot be stored in a form that can be read back; nothing was written."""


class SessionDecodeError(SessionError):
    """What is stored does not fit the session's type; it is left in storage untouched."""


class SessionDecryptError(SessionDecodeError):
    """What is stored cannot be decrypted with the keys at hand; it is left untouched, whatever `on_decode_error` is."""


class SessionTooLargeError(SessionError):
    """The encoded session is larger than `max_size`; nothing was written."""


class SessionMigrationError(SessionError):
    """Stored data cannot be brought to the newest version; it is left in storage untouched."""


class SessionActionError(SessionError):
    """What was handed to `after_commit` is not an action, cannot be stored, or was handed over outside an update."""


class SessionUnsentError(SessionError):
    """The session is committed, and an action of `after_commit` could not be sent yet; it is stored with the session.

    Telegram must deliver the update again: then the handler does not run, and what is stored is sent.
    """


class StorageError(SessionError):
    """The storage refused or failed; what is stored is as it was before."""


class StorageUnavailableError(StorageError, ConnectionError):
    """The storage cannot be reached, or did not recover within the time for retries."""


def shown(key: str) -> str:
    """A key as it may appear in a message: quoted, control characters escaped, cut when very long."""
    if len(key) <= _LONGEST_SHOWN_KEY:
        return repr(key)
    return f"{key[:_LONGEST_SHOWN_KEY]!r}… ({len(key)} characters)"
