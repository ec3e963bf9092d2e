"""Requests of the page as values, and errors as answers that it can show."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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


def answering(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turns errors into answers that the page can show."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except RefusedError as refused:
            return _error(refused.status, str(refused))
        except UnusableTextError as error:
            return _error(422, f"{error} Nothing was changed.")
        except ChangedMeanwhileError as error:
            return _error(409, f"{error}. Nothing was overwritten.")
        except NothingToUndoError as error:
            return _error(410, f"There is nothing to undo: {error}.")
        except SessionKeyError as error:
            return _error(400, str(error))
        except SessionLockTimeoutError:
            return _error(423, "The bot is at work on this session and holds its lock. Nothing was changed; try again.")
        except StorageUnavailableError as error:
            return _error(503, f"The storage cannot be reached: {error}")
        except SessionError as error:
            return _error(500, f"The storage refused: {error}")

    return endpoint


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


def json_answer(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _error(status: int, message: str) -> Response:
    return Response(msgspec.json.encode({"error": message}), status, media_type="application/json")
