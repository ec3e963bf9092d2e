"""`doctor`: can the storage be reached, how fast, and how durable is it?"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from platform import python_version
from typing import Annotated

import typer
from msgspec import to_builtins

from chatsession import __version__
from chatsession.cli._options import AsJson, Url
from chatsession.cli._running import FOUND, command
from chatsession.cli._screen import duration, emit, note, safe, say, wrapped
from chatsession.cli._storage import opened
from chatsession.errors import SessionError
from chatsession.storages import Action, Change, Storage
from chatsession.storages.inspection import Fact, Tells

_TIMES = 20
_SLOW = 0.1
_TTL = 60.0


@command
async def doctor(
    url: Url,
    write: Annotated[
        bool, typer.Option("--write", help="Measure commits, too, on a session of its own that is deleted at once.")
    ] = False,
    as_json: AsJson = False,
) -> int | None:
    """Connect to the storage; show versions, latencies and how durable a commit is, and what to change."""
    facts = [Fact("chatsession", __version__), Fact("Python", python_version())]
    started = time.perf_counter()
    async with opened(url) as storage:
        facts.append(Fact("opened within", duration(time.perf_counter() - started)))
        facts += await _latencies(storage, write)
        if isinstance(storage, Tells):
            facts += await storage.facts()
        else:
            note("more about its server is not available for this storage")
    for fact in facts:
        _tell(fact, as_json)
    return FOUND if any(fact.advice for fact in facts) else None


async def _latencies(storage: Storage, write: bool) -> list[Fact]:
    key = f"chatsession-doctor-{secrets.token_hex(8)}"

    async def read() -> None:
        await storage.read_many([key])

    async def put() -> None:
        (outcome,) = await storage.commit_many([Change(key, Action.PUT, b"{}", ttl=_TTL if storage.expiring else None)])
        if isinstance(outcome, SessionError):
            raise outcome

    facts = [await _latency("a read takes", read)]
    if write:
        try:
            facts.append(await _latency("a commit takes", put))
        finally:
            await storage.commit_many([Change(key, Action.DELETE)])
    return facts


async def _latency(name: str, call: Callable[[], Awaitable[None]]) -> Fact:
    taken: list[float] = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started)
    middle = statistics.median(taken)
    advice = "each update waits for two of them; bring the storage nearer to the bot" if middle > _SLOW else None
    return Fact(name, f"{middle * 1000:.2f} ms (median of {_TIMES}, at most {max(taken) * 1000:.2f} ms)", advice)


def _tell(fact: Fact, as_json: bool) -> None:
    if as_json:
        emit(to_builtins(fact))
        return
    say(wrapped(f"{'!' if fact.advice else '·'} {fact.name}: {safe(fact.value)}", 2), "yellow" if fact.advice else "")
    if fact.advice:
        say(wrapped(f"    {fact.advice}", 4))
