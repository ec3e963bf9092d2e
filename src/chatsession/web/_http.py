"""Requests of the page as values, and errors as answers that it can show."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from chatsession.contents import UnusableTextError
from chatsession.errors import SessionError, SessionKeyError, SessionLockTimeoutError, StorageUnavailableError
from chatsession.web._sessions import ChangedMeanwhileError, NothingToUndoError

T = TypeVar("T")

LARGEST_REQUEST = 128 * 1024 * 1024


class RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def asked_for(request: Request, shape: type[T]) -> T:
    """The body of a request, if it has the right shape."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_REQUEST:
            raise RefusedError(413, f"That is more than {LARGEST_REQUEST:,} bytes; nothing was changed.")
    try:
        return await asyncio.to_thread(msgspec.json.decode, bytes(body), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(400, "The request is malformed, or has text that is not valid Unicode.") from None


def json_answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


Handler: TypeAlias = Callable[[Request, Any], Awaitable[Response]]


def _told(status: int, text: str = "{}") -> Handler:
    async def answer(_: Request, error: Exception) -> Response:
        return json_answer({"error": text.format(error)}, status)

    return answer


async def _refused(_: Request, error: RefusedError) -> Response:
    return json_answer({"error": str(error)}, error.status)


HANDLERS: Mapping[type[Exception], Handler] = {
    RefusedError: _refused,
    UnusableTextError: _told(422, "{} Nothing was changed."),
    ChangedMeanwhileError: _told(409, "{}. Nothing was overwritten."),
    NothingToUndoError: _told(410, "There is nothing to undo: {}."),
    SessionKeyError: _told(400),
    SessionLockTimeoutError: _told(
        423, "The bot is at work on this session and holds its lock. Nothing was changed; try again."
    ),
    StorageUnavailableError: _told(503, "The storage cannot be reached: {}"),
    SessionError: _told(500, "The storage refused: {}"),
}
"""Errors as answers that the page can show."""
