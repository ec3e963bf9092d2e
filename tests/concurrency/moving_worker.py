"""One of the processes of a bot whose groups become supergroups: `python moving_worker.py OPTIONS`.

Each line of its input is a JSON list of updates; it handles them, many at a time, writes down which were handled, and
says so. It ends when its input ends, or kills itself in the middle of a move if it was told to.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

import msgspec

from chatsession import SessionConflictError, SessionManager
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_session import UpdateSession
from chatsession.unit_of_work import move as moving

IN_FLIGHT = 10
NOT_SECRET = "A" * 43 + "="
"""A key to encrypt with."""


class Update(msgspec.Struct, array_like=True, frozen=True):
    """What Telegram delivers: a message in a chat, or the news that it has become another one."""

    id: int
    chat: int
    moved_from: int | None = None
    moved_to: int | None = None


class Options(msgspec.Struct, kw_only=True):
    url: str
    prefix: str
    history: str
    lock_lease: float
    everything: bool = False
    """Encryption, compression, migrations and the memory of updates are on."""
    die_at: int | None = None
    """Ends by SIGKILL before this step of a move."""


@dataclass
class Tally:
    """The session: how many updates there were, and which."""

    count: int = 0
    by: list[int] = field(default_factory=list)


def manager(options: Options) -> SessionManager[Tally]:
    """The sessions, the same in all processes."""
    more: dict[str, Any] = {}
    if options.everything:
        more = {
            "encryption_keys": [NOT_SECRET],
            "compression": 50,
            "deduplicate": 10_000,
            "migrations": {1: lambda data: data},
        }
    return SessionManager(
        Tally,
        storage=options.url,
        prefix=options.prefix,
        lock_lease=options.lock_lease,
        lock_timeout=300,
        merge=both,
        **more,
    )


def both(old: Tally, new: Tally) -> Tally:
    """Of a group that was written under both of its ids."""
    return Tally(old.count + new.count, old.by + new.by)


async def handle(sessions: SessionManager[Tally], update: Update) -> None:
    """As an integration does."""
    context = UpdateContext(
        chat_id=update.chat,
        user_id=1,
        thread_id=None,
        business_connection_id=None,
        bot_id=1,
        update=update,
        update_id=update.id,
        moved_from=update.moved_from,
        moved_to=update.moved_to,
    )
    unit = UpdateSession(sessions, context, per_bot=False, lazy=False)
    try:
        if context.moves_chat:
            await unit.follow_chat()
        await unit.open()
        if not unit.redelivered:
            await count_up(await unit.load(), update)
    except BaseException:
        if (opened := unit.close()) is not None:
            await opened.abort()
        raise
    if (opened := unit.close()) is not None:
        await opened.commit()


async def handled(sessions: SessionManager[Tally], update: Update) -> bool:
    """Handle it; `False`: this process stood still for so long that its lock was lost, and nothing was written."""
    try:
        await handle(sessions, update)
    except SessionConflictError:
        return False
    return True


async def count_up(tally: Tally, update: Update) -> None:
    """The handler: whoever else had the session meanwhile would be overwritten."""
    before = tally.count
    await asyncio.sleep(random.uniform(0, 0.003))
    tally.count = before + 1
    tally.by.append(update.id)


async def handle_all(sessions: SessionManager[Tally], updates: list[Update], history: TextIO) -> None:
    upcoming = iter(updates)

    async def some() -> None:
        for update in upcoming:
            while not await handled(sessions, update):
                pass
            history.write(f"{update.id}\n")
            history.flush()

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(some())


def die_at(step: int) -> None:
    """Let this process end like one that is killed, when it is about to take this step of a move."""
    put = moving._put
    steps = 0

    async def counted(*args: Any, **options: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
        await put(*args, **options)

    moving._put = counted


async def main(options: Options) -> None:
    if options.die_at is not None:
        die_at(options.die_at)
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with open(options.history, "a") as history:  # noqa: ASYNC230 - a line now and then
        async with manager(options) as sessions:
            print("ready", flush=True)
            while line := await reader.readline():
                await handle_all(sessions, msgspec.json.decode(line, type=list[Update]), history)
                print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Options)))
