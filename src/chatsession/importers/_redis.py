"""Strings in Redis, found by their keys, a page at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol, TypeAlias, cast

try:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError, ResponseError
except ImportError as error:
    raise ImportError("reading from Redis needs redis-py: pip install 'chatsession[redis]'") from error

from chatsession.errors import SessionError, StorageUnavailableError

_PAGE = 200

Source: TypeAlias = "str | Redis"


class _Pipeline(Protocol):
    def get(self, name: bytes) -> object: ...
    def hmget(self, name: bytes, keys: Sequence[str]) -> object: ...
    async def execute(self, raise_on_error: bool = True) -> list[object]: ...


class _Client(Protocol):
    """The part of redis-py's client that is used here; its own types are incomplete."""

    def scan_iter(self, match: bytes, count: int) -> AsyncIterator[str | bytes]: ...
    def pipeline(self, transaction: bool) -> _Pipeline: ...
    async def aclose(self) -> None: ...


@contextlib.asynccontextmanager
async def client_of(source: Source) -> AsyncGenerator[Any, None]:
    """The client to read with, closed again if it was made here."""
    client: Any = source
    if isinstance(source, str):
        try:
            client = Redis.from_url(source)  # pyright: ignore[reportUnknownMemberType] - its **kwargs have no types
        except ValueError as error:
            raise SessionError(f"the URL of Redis is wrong: {error}") from None
    try:
        yield client
    except RedisError as error:
        raise StorageUnavailableError(f"Redis did not answer ({type(error).__name__})") from None
    finally:
        if client is not source:
            await client.aclose()


async def names_of(client: _Client, pattern: bytes) -> AsyncGenerator[list[bytes]]:
    """All keys that match, in pages; a key can come twice while others come and go."""
    page: list[bytes] = []
    async for name in client.scan_iter(match=pattern, count=_PAGE):
        page.append(name.encode() if isinstance(name, str) else name)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


async def strings_of(client: _Client, names: Sequence[bytes]) -> list[bytes | None]:
    """The values of these keys; `None` where no string is stored."""
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.get(name)
    return [_string(answer) for answer in await pipeline.execute(raise_on_error=False)]


async def hashes_of(client: _Client, names: Sequence[bytes], fields: Sequence[str]) -> list[list[bytes | None] | None]:
    """Fields of these keys; `None` where there is no hash."""
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.hmget(name, fields)
    answers = await pipeline.execute(raise_on_error=False)
    return [None if isinstance(answer, ResponseError) else _strings(answer) for answer in answers]


def _strings(answer: object) -> list[bytes | None]:
    if isinstance(answer, Exception):
        raise answer
    return [_string(each) for each in cast("list[object]", answer)]


def _string(answer: object) -> bytes | None:
    if isinstance(answer, ResponseError) or answer is None:  # of another type, or gone meanwhile
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer.encode() if isinstance(answer, str) else cast("bytes", answer)


def literal(text: str) -> bytes:
    """A pattern that matches only this text."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in text.encode())
