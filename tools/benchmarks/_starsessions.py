"""starsessions, sessions of web applications: requests as an ASGI server would pass them on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from redis.asyncio import Redis
from starlette.types import ASGIApp
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

from tools.benchmarks._chats import CHATS
from tools.benchmarks._measure import Run, Running, in_flight
from tools.benchmarks._pizza import Pizza

_PREFIX = "starsessions."


@asynccontextmanager
async def alone(flight: int) -> AsyncGenerator[Running]:
    """An application without sessions."""
    total = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal total
        total += 1
        await _answer(send)

    async def counted() -> int:
        return total

    yield Running(_requesting(application, flight), counted)


def with_store(redis: Redis, flight: int) -> Run:
    """An application with a session that each request counts up."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if not session:
            session.update(asdict(Pizza()))
        session["count"] += 1
        await _answer(send)

    store = RedisStore(connection=redis, prefix=_PREFIX)
    return _requesting(SessionMiddleware(SessionAutoloadMiddleware(application), store), flight)


def key_of(number: int) -> str:
    """Where the session of this chat is stored."""
    return f"{_PREFIX}chat-{number % CHATS}"


def _requesting(application: ASGIApp, flight: int) -> Run:
    scopes = [_scope(number) for number in range(CHATS)]

    async def handle(number: int) -> None:
        await application(dict(scopes[number % CHATS]), _receive, _send)

    return lambda updates: in_flight(flight, updates, handle)


def _scope(number: int) -> dict[str, Any]:
    cookie = (b"cookie", f"session=chat-{number}".encode())
    return {"type": "http", "method": "GET", "path": "/", "root_path": "", "query_string": b"", "headers": [cookie]}


async def _answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}


async def _send(message: Any) -> None: ...
