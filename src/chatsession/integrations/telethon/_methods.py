"""Methods of Telethon's clients, for `after_commit`."""

from __future__ import annotations

from telethon import errors  # pyright: ignore[reportMissingTypeStubs]

from chatsession.actions import RefusedError, RetryLaterError, UnreachableError


def translated(error: Exception) -> Exception:
    """See `Methods.translate`."""
    if isinstance(error, errors.FloodError):
        return RetryLaterError(getattr(error, "seconds", 1))
    if isinstance(error, errors.ServerError | errors.TimedOutError | OSError):
        return UnreachableError(type(error).__name__)
    return RefusedError(str(error)) if isinstance(error, errors.RPCError) else error
