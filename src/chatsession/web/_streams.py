"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import StreamingResponse

from chatsession.errors import SessionError
from chatsession.storages import Record
from chatsession.web._sessions import Sessions, mark_of
from chatsession.web._survey import Sizes, Survey

SECONDS_BETWEEN_LOOKS = 0.2
PAUSE_BY_DURATION = 10.0
"""The pause after a look is at least this much longer than the look: large sessions are looked at less often."""
SECONDS_BETWEEN_FIGURES = 1.0
SECONDS_AFTER_FAILURE = 2.0

Events = AsyncGenerator[tuple[str, bytes]]
"""Name and JSON of each."""


def response(events: Events, closing: asyncio.Event) -> StreamingResponse:
    """Send events until the browser has enough of them, or the server ends."""
    return StreamingResponse(_sent(events, closing), media_type="text/event-stream")


async def _sent(events: Events, closing: asyncio.Event) -> AsyncIterator[bytes]:
    closed = asyncio.ensure_future(closing.wait())
    async with aclosing(events):
        following: asyncio.Task[tuple[str, bytes]] | None = None
        try:
            while True:
                following = asyncio.create_task(anext(events))  # type: ignore[arg-type] # an async generator's is a coroutine
                await asyncio.wait([following, closed], return_when=asyncio.FIRST_COMPLETED)
                if closed.done():
                    return
                name, data = following.result()
                yield b"event: %b\ndata: %b\n\n" % (name.encode(), data)
        finally:
            for task in (following, closed):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])


async def changes(sessions: Sessions, key: str, describe: Callable[[Record | None], bytes]) -> Events:
    """What is stored under a key, now and whenever it differs from the look before."""
    shown: tuple[str, float | None] | None = None
    trouble = False
    while True:
        start = time.monotonic()
        try:
            record = await sessions.read(key)
        except SessionError as error:
            trouble = True
            yield "trouble", msgspec.json.encode({"error": str(error)})
            await asyncio.sleep(SECONDS_AFTER_FAILURE)
            continue
        current = mark_of(record), None if record is None else record.expires_at
        if current != shown or trouble:
            shown, trouble = current, False
            yield "session", await asyncio.to_thread(describe, record)
        # There is no event to wait for: who writes is another process.
        await asyncio.sleep(max(SECONDS_BETWEEN_LOOKS, PAUSE_BY_DURATION * (time.monotonic() - start)))


async def figures(sessions: Sessions, survey: Survey) -> Events:
    """Counts, sizes and latencies, once a second."""
    seen = 0
    async with survey:
        while True:
            problem = survey.problem
            try:
                # A key that is no chat's: how long does the storage take to say so?
                await sessions.read("chatsession: how long does a read take?")
            except SessionError as error:
                problem = str(error)
            latencies, seen = sessions.latencies.since(seen), sessions.latencies.count
            yield (
                "figures",
                msgspec.json.encode(
                    {
                        "problem": problem,
                        "latencies": latencies,
                        "counts": list(survey.counts),
                        "counting": survey.going_on.count if survey.going_on is not None else None,
                        "sizes": _sizes(survey.done or survey.going_on),
                    }
                ),
            )
            await asyncio.sleep(SECONDS_BETWEEN_FIGURES)


def _sizes(sizes: Sizes | None) -> dict[str, Any] | None:
    if sizes is None:
        return None
    return {
        "count": sizes.count,
        "bytes": sizes.bytes,
        "expiring": sizes.expiring,
        "histogram": sorted(sizes.histogram.items()),
        "largest": sorted(sizes.largest, reverse=True),
    }
