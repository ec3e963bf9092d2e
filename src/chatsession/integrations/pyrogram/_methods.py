"""Methods of Pyrogram's clients, for `after_commit`."""

from __future__ import annotations

from typing import Any, cast

from pyrogram import errors

from chatsession.actions import RefusedError, RetryLaterError, UnreachableError


def translated(error: Exception) -> Exception:
    """See `Methods.translate`."""
    if isinstance(error, errors.FloodWait):
        return RetryLaterError(float(cast("Any", error).value))
    if isinstance(error, errors.InternalServerError | errors.ServiceUnavailable | OSError):
        return UnreachableError(type(error).__name__)
    return RefusedError(str(error)) if isinstance(error, errors.RPCError) else error
