"""Processes of a bot of aiogram whose handlers count in FSM data: `python fsm_bot.py OPTIONS`.

Each handler also names the count in its state, and in a session. When an update is done, its user's number goes into
the process's file. Processes are forked from here, because importing a framework takes long; their ids are printed,
one a line, and the program ends with the last of them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from itertools import count

import msgspec
from aiogram import Bot, Dispatcher
from aiogram.fsm.context import FSMContext
from aiogram.types import Message, Update

from chatsession import SessionConflictError, SessionManager, open_storage
from chatsession.integrations.aiogram import setup_fsm, setup_sessions

USERS = 10


class Options(msgspec.Struct):
    storage: str
    prefix: str
    folder: str
    processes: int
    updates: int
    """Of all processes together."""
    in_flight: int
    lock_lease: float
    with_session: bool


@dataclass
class Tally:
    count: int = 0


def dispatcher(options: Options) -> Dispatcher:
    dp, storage = Dispatcher(), open_storage(options.storage)
    setup_fsm(dp, storage, prefix=options.prefix, lock_lease=options.lock_lease, lock_timeout=300)
    if options.with_session:
        sessions = SessionManager(
            Tally,
            storage=storage,
            prefix=f"{options.prefix}session:",
            lock_lease=options.lock_lease,
            lock_timeout=300,
        )
        setup_sessions(dp, sessions)

        @dp.message()
        async def count_both(message: Message, state: FSMContext, raw_state: str | None, session: Tally) -> None:
            session.count += 1
            await count_up(state, raw_state)
    else:

        @dp.message()
        async def count_state(message: Message, state: FSMContext, raw_state: str | None) -> None:
            await count_up(state, raw_state)

    return dp


async def count_up(state: FSMContext, raw_state: str | None) -> None:
    before = await state.get_value("count", 0)
    assert raw_state == (f"counted:{before}" if before else None)
    await asyncio.sleep(0)
    await state.set_state(f"counted:{before + 1}")
    await state.update_data(count=before + 1)


async def work(options: Options) -> None:
    bot, dp = Bot("42:TEST"), dispatcher(options)
    await dp.emit_startup()
    done = os.open(f"{options.folder}/{os.getpid()}.done", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    numbers = iter(range(options.updates // options.processes))

    async def feed() -> None:
        for number in numbers:
            user = number % USERS + 1
            update = _update(user, bot)
            while True:
                try:
                    await dp.feed_update(bot, update)
                except SessionConflictError:  # on a busy machine, a short lease may well be lost
                    continue
                break
            os.write(done, b"%d\n" % user)

    await asyncio.gather(*[feed() for _ in range(options.in_flight)])
    await dp.emit_shutdown()


_ids = count(1)


def _update(user: int, bot: Bot) -> Update:
    sender = {"id": user, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": 1, "date": 0, "chat": {"id": user, "type": "private"}, "from": sender, "text": "hi"}
    return Update.model_validate({"update_id": next(_ids), "message": message}, context={"bot": bot})


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    children: list[int] = []
    for _ in range(options.processes):
        child = os.fork()
        if child == 0:
            asyncio.run(work(options))
            os._exit(0)
        children.append(child)
        print(child, flush=True)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
