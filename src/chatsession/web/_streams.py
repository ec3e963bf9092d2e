"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Send

from chatsession.diagnosis import examine_all
from chatsession.errors import SessionError
from chatsession.maintenance import Scope
from chatsession.statistics import Statistics
from chatsession.storages import Record, Storage
from chatsession.web._sessions import Sessions, mark_of
from chatsession.web._survey import Survey

SECONDS_BETWEEN_LOOKS = 0.2
PAUSE_BY_DURATION = 10.0
"""The pause after a read is this much longer than the read, so that large sessions are read less often."""
SECONDS_BETWEEN_FIGURES = 1.0
SECONDS_AFTER_FAILURE = 1.0
NO_CHATS_KEY = "chatsession: how long does a read take?"
"""No chat has this key. Reading it measures the storage."""


class EventStream(StreamingResponse):
    """Sends events until the browser closes the connection.

    Args:
        events: name and JSON of each; closed in any case.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[tuple[str, bytes]]) -> None:
        self._events = events
        super().__init__(self._sent())

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._events):
            await super().stream_response(send)

    async def _sent(self) -> AsyncGenerator[bytes]:
        async for name, data in self._events:
            yield b"event: %b\ndata: %b\n\n" % (name.encode(), data)


async def changes(
    sessions: Sessions, key: str, describe: Callable[[Record | None], bytes], closing: asyncio.Event
) -> AsyncGenerator[tuple[str, bytes]]:
    """What is stored under a key, now and whenever it differs from the look before.

    Args:
        sessions: to look at.
        key: of one of them.
        describe: makes its JSON.
        closing: ends this.
    """
    shown: tuple[str, float | None] | None = None
    while not closing.is_set():
        start = time.monotonic()
        try:
            record = await sessions.read(key)
        except SessionError as error:
            shown = None
            yield "trouble", msgspec.json.encode({"error": str(error)})
            await _pause(SECONDS_AFTER_FAILURE, closing)
            continue
        current = mark_of(record), None if record is None else record.expires_at
        if current != shown:
            shown = current
            yield "session", await asyncio.to_thread(describe, record)
        # There is no event to wait for: another process writes.
        await _pause(max(SECONDS_BETWEEN_LOOKS, PAUSE_BY_DURATION * (time.monotonic() - start)), closing)


async def figures(sessions: Sessions, survey: Survey, closing: asyncio.Event) -> AsyncGenerator[tuple[str, bytes]]:
    """Counts, sizes and latencies, once a second, until `closing` is set."""
    seen = 0
    async with survey:
        while not closing.is_set():
            problem = survey.problem
            try:
                await sessions.read(NO_CHATS_KEY)
            except SessionError as error:
                problem = str(error)
            latencies, seen = sessions.latencies.since(seen), sessions.latencies.count
            told = {
                "problem": problem,
                "latencies": latencies,
                "counts": list(survey.counts),
                "counting": survey.going_on.sessions if survey.going_on is not None else None,
                "sizes": _sizes(survey.done or survey.going_on),
            }
            yield "figures", msgspec.json.encode(told)
            await _pause(SECONDS_BETWEEN_FIGURES, closing)


async def problems(storage: Storage, closing: asyncio.Event) -> AsyncGenerator[tuple[str, bytes]]:
    """What is wrong with stored sessions, page by page; the last event is `done`."""
    seen = 0
    try:
        async for number, findings in examine_all(storage, Scope()):
            seen += number
            found = [finding._asdict() for finding in findings]
            yield "problems", msgspec.json.encode({"seen": seen, "found": found})
            if closing.is_set():
                return
    except SessionError as error:
        yield "trouble", msgspec.json.encode({"error": str(error)})
        return
    yield "done", msgspec.json.encode({"seen": seen})


async def _pause(seconds: float, closing: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await closing.wait()


def _sizes(found: Statistics | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "count": found.sessions,
        "bytes": found.bytes,
        "expiring": found.expiring,
        "histogram": sorted(found.sizes.items()),
        "largest": found.largest,
    }
