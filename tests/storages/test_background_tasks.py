"""The background tasks of storages end with them."""

from __future__ import annotations

import asyncio

from chatsession.storages._shared.sweeper import end


async def test_a_task_that_loses_a_cancellation_is_ended() -> None:
    """As Python 3.11 loses one where `asyncio.wait_for` has just got its result."""
    answered = asyncio.get_running_loop().create_future()
    waiting = asyncio.Event()

    async def listen() -> None:
        waiting.set()
        await asyncio.wait_for(answered, 60)
        await asyncio.Event().wait()

    task = asyncio.create_task(listen())
    await waiting.wait()
    answered.set_result(None)
    async with asyncio.timeout(60):
        await end(task)
    assert task.cancelled()
