"""A process that stood still for longer than its leases hands none of them on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from chatsession import SessionManager
from chatsession.storages.sqlite import SQLiteStorage


async def test_a_lock_that_was_lost_is_not_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"

    async def count_elsewhere() -> None:
        async with SessionManager(int, storage=SQLiteStorage(path)) as there:
            await there.update("424242", lambda count: count + 1)

    async with SessionManager(int, storage=SQLiteStorage(path), lock_lease=0.3) as here:

        async def look() -> int:
            async with here.open("424242") as session:
                return session.data

        async with here.open("424242"):
            looking = asyncio.create_task(look())
            await asyncio.sleep(0)  # it waits for its turn now
            other_process = threading.Thread(target=lambda: asyncio.run(count_elsewhere()))
            other_process.start()
            other_process.join()  # which stops this one until the lease has run out and the other one has written
        assert await looking == 1
