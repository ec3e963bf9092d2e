"""Several sessions opened and ended as one, without ever waiting in a circle.

KeyQueue and locks are taken in one order, that of storage and key, which is the same for everybody: so whoever holds
one waits only for later ones, and no two callers wait for each other. As long as nobody else holds any of them, all
are asked for at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from chatsession.unit_of_work.session import Elsewhere, Session


async def begin_all(sessions: Sequence[Session[Any]]) -> None:
    """Open all, or none."""
    ordered = sorted(sessions, key=lambda session: session._order)
    try:
        if _immediate(ordered):
            for session in ordered:
                await session._begin()
            return
        for session in ordered:
            await session._take_turn()
        await _lock_all(ordered)
    except Elsewhere as elsewhere:
        await abandon_all(ordered)
        await elsewhere.session._follow(elsewhere)
        for session in ordered:
            session._renew()
        await begin_all(ordered)
    except BaseException:
        await abandon_all(ordered)
        raise


async def finish_all(sessions: Sequence[Session[Any]]) -> None:
    """Commit all; if one has data that cannot be stored, none is written.

    Each session is atomic by itself. Of several that fail, the first error is raised, after all have ended.
    """
    try:
        for session in sessions:
            session._prepare()
    except BaseException:
        await abandon_all(sessions)
        raise
    _raise_first(await _each(sessions, [session._finish() for session in sessions]))


async def abandon_all(sessions: Sequence[Session[Any]]) -> None:
    """Write none."""
    await _each(sessions, [session._abandon() for session in sessions])


async def _lock_all(left: Sequence[Session[Any]]) -> None:
    while left:
        locked = await _each(left, [session._lock_now() for session in left])
        _raise_first(locked)
        if False not in locked:
            return
        # Another process has this one. Waiting for it with later ones in hand could close a circle.
        busy = locked.index(False)
        later = left[busy + 1 :]
        await _each(later, [session._unlock() for session in later])
        await left[busy]._lock()
        left = later


async def _each(
    sessions: Sequence[Session[Any]], doing: Sequence[Coroutine[Any, Any, bool | None]]
) -> list[bool | BaseException | None]:
    """Do something with each, at the same time where that saves trips; errors are returned in their places."""
    if not _immediate(sessions):
        return await _to_the_end(doing)
    results: list[bool | BaseException | None] = []
    for step in doing:
        try:
            results.append(await step)
        except Exception as error:
            results.append(error)
    return results


async def _to_the_end(doing: Sequence[Coroutine[Any, Any, bool | None]]) -> list[bool | BaseException | None]:
    """Do all at the same time. A cancellation takes effect afterwards, or it could hit one that has not begun."""
    tasks = [asyncio.ensure_future(step) for step in doing]
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    results = await asyncio.gather(*tasks, return_exceptions=True)
    if cancelled is not None:
        raise cancelled
    return results


def _immediate(sessions: Sequence[Session[Any]]) -> bool:
    return all(session._plan.coordinator.immediate for session in sessions)


def _raise_first(results: Sequence[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result
