"""Opens a session after others of the same update, in whatever order, without a deadlock with other processes.

Sessions are locked in one order, so that nobody waits for an earlier one while holding a later one. A handler that uses
lazy sessions in another order lends the later ones: it gives their locks back, waits for the earlier one, and locks
them again. If they were changed meanwhile, the update fails with a `SessionConflictError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from chatsession.unit_of_work.unit import UnitOfWork

_PATIENCE = 1.0
"""Seconds to wait for an earlier session while holding later ones. Most updates that hold it end sooner."""


async def begin_beside(unit: UnitOfWork[Any], opened: Iterable[UnitOfWork[Any] | None]) -> None:
    """Open a session; `opened` are those of the same update that are open already."""
    later = [each for each in opened if each is not None and each.is_locked and each.lock_order > unit.lock_order]
    if not later:
        await unit.begin()
        return
    longest = unit.runtime.lock_timeout
    limit = asyncio.timeout(_PATIENCE if longest is None else min(longest / 2, _PATIENCE))
    try:
        async with limit:
            await unit.begin()
        return
    except TimeoutError:
        if not limit.expired():
            raise
    for each in later:
        await each.lend()
    unit.reset()
    await unit.begin()
    try:
        for each in sorted(later, key=lambda each: each.lock_order):
            await each.take_back()
    except BaseException:
        await unit.abort()
        raise
