"""Opens and ends several sessions together, without deadlocks.

Keys are acquired in one order, that of storage and key, which is the same everywhere: a holder waits only for later
ones, so that no two callers wait for each other. If no key is held by others, all are locked at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeAlias

from chatsession.errors import SessionUnsentError
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.loaded import MovedError
from chatsession.unit_of_work.unit import UnitOfWork

Unit: TypeAlias = UnitOfWork[Any] | LazySession[Any]


async def begin_all(units: Sequence[UnitOfWork[Any]]) -> None:
    """Open all sessions, or none."""
    ordered = sorted(units, key=lambda unit: unit.lock_order)
    try:
        if _immediate(ordered):
            for unit in ordered:
                await unit.begin()
            return
        for unit in ordered:
            await unit.enter_queue()
        await _lock_all(ordered)
    except MovedError as moved:
        await abort_all(ordered)
        await moved.unit.follow(moved)
        for unit in ordered:
            unit.reset()
        await begin_all(ordered)
    except BaseException:
        await abort_all(ordered)
        raise


def all_redelivered(units: Iterable[UnitOfWork[Any] | None]) -> bool:
    """Whether all sessions that remember updates have seen this one; if only some have, the others need the handler."""
    seen = [unit.redelivered for unit in units if unit is not None and unit.update_id is not None]
    return bool(seen) and all(seen)


async def commit_all(units: Sequence[Unit]) -> None:
    """Prepare all sessions, then commit all; if one holds data that cannot be stored, none is written.

    Each session is atomic by itself. Of several that fail, the first error is raised, after all have ended.
    """
    if not units:
        return
    try:
        for unit in units:
            if isinstance(unit, LazySession):
                await unit.settle()
        opened = _opened(units)
        if len(opened) > 1:
            for unit in opened:
                unit.prepare()
    except BaseException:
        await abort_all(units)
        raise
    if len(opened) == 1:
        await opened[0].commit()
    elif any(unit.outbox is not None for unit in opened):
        await _commit_and_send(opened)
    else:
        _raise_first(await _each(opened, [unit.commit() for unit in opened]))


async def _commit_and_send(units: Sequence[UnitOfWork[Any]]) -> None:
    """Commit all, then send the actions of each session that was committed, one session after another."""
    outboxes = [unit.take_outbox() for unit in units]
    results: list[object] = list(await _each(units, [unit.commit() for unit in units]))
    for outbox, result in zip(outboxes, results, strict=True):
        if outbox is None:
            continue
        if isinstance(result, BaseException):
            outbox.discard()
            continue
        try:
            await outbox.send()
        except SessionUnsentError as error:
            results.append(error)
    _raise_first(results)


async def abort_all(units: Sequence[Unit]) -> None:
    """Abort all sessions: nothing is written. May be called twice."""
    _raise_first(await _to_the_end([unit.abort() for unit in units]))


def _opened(units: Iterable[Unit]) -> list[UnitOfWork[Any]]:
    """Those that were opened; lazy ones are closed for all other users."""
    opened = [unit.close() if isinstance(unit, LazySession) else unit for unit in units]
    return [unit for unit in opened if unit is not None]


async def _lock_all(left: Sequence[UnitOfWork[Any]]) -> None:
    while left:
        locked = await _each(left, [unit.try_lock() for unit in left])
        _raise_first(locked)
        if False not in locked:
            return
        # Another process holds this one. Waiting for it while holding later ones could deadlock.
        busy = locked.index(False)
        later = left[busy + 1 :]
        await _each(later, [unit.unlock() for unit in later])
        await left[busy].lock()
        left = later


async def _each(
    units: Sequence[UnitOfWork[Any]], doing: Sequence[Coroutine[Any, Any, bool | None]]
) -> list[bool | BaseException | None]:
    """Run one step for each unit, concurrently if that saves trips. Errors are returned in place of results."""
    if not _immediate(units):
        return await _to_the_end(doing)
    results: list[bool | BaseException | None] = []
    for step in doing:
        try:
            results.append(await step)
        except Exception as error:
            results.append(error)
    return results


async def _to_the_end(doing: Sequence[Coroutine[Any, Any, bool | None]]) -> list[bool | BaseException | None]:
    """Run all concurrently. A cancellation takes effect afterwards, so that it cannot hit a step that has not begun."""
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


def _immediate(units: Sequence[UnitOfWork[Any]]) -> bool:
    return all(unit.runtime.coordinator.immediate for unit in units)


def _raise_first(results: Sequence[object]) -> None:
    for result in results:
        if isinstance(result, BaseException):
            raise result
