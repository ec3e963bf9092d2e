"""A browser's side of the inspector's HTTP, and of its streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from chatsession.storages import Action, Change, Storage
from chatsession.web import Inspector


async def put(storage: Storage, sessions: dict[str, bytes], ttl: float | None = None) -> None:
    """Store sessions as they are."""
    await storage.commit_many([Change(key, Action.PUT, value, ttl=ttl) for key, value in sessions.items()])


async def stored(storage: Storage, key: str) -> bytes | None:
    (found,) = await storage.read_many([key])
    return None if found is None else found.value  # type: ignore[union-attr] # an error fails the test as well


def keys_of(found: dict[str, Any]) -> list[str]:
    return [entry["key"] for entry in found["sessions"]]


class Visitor:
    """What the page does, without the page."""

    def __init__(self, inspector: Inspector) -> None:
        self.origin = f"http://127.0.0.1:{inspector.port}"
        self.http = httpx.AsyncClient(base_url=self.origin, trust_env=False, timeout=60)

    @asynccontextmanager
    async def let_in(self, address: str) -> AsyncIterator[Visitor]:
        async with self.http:
            await self.enter(address)
            yield self

    async def enter(self, address: str) -> httpx.Response:
        return await self.http.get(address)

    async def ask(self, name: str, **body: object) -> tuple[int, Any]:
        answer = await self.post(name, body)
        return answer.status_code, answer.json()

    async def found(self, **body: object) -> dict[str, Any]:
        """A page of sessions."""
        status, found = await self.ask("find", **body)
        assert status == 200, found
        return found

    async def post(self, name: str, body: object, **headers: str) -> httpx.Response:
        sent = {"origin": self.origin, "content-type": "application/json", **headers}
        return await self.http.post(f"/api/{name}", content=json.dumps(body), headers=sent)

    async def follow(self, name: str, **body: object) -> AsyncIterator[tuple[str, Any]]:
        headers = {"origin": self.origin, "content-type": "application/json"}
        async with self.http.stream("POST", f"/api/{name}", content=json.dumps(body), headers=headers) as answer:
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield event, json.loads(line.removeprefix("data: "))
