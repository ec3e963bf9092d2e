"""The Python calls of one aiogram update whose session is changed, on SQLite, while its lease is kept.

`python -m tools.calls` prints the functions in the order of their calls, indented by depth, and how many there are.
aiogram's own calls, and those of the standard library and other packages, are not counted.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

from aiogram import Bot, Dispatcher
from aiogram.types import Message, Update

import chatsession
from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_sessions

SOURCE = Path(chatsession.__file__).parent
_WARM_UP = 5
"""Updates that come before, so that the storage is open and the lease is kept."""
_SETTLED = 2.5
"""Seconds after which it is certain that no other file appeared beside the database's."""
_IDLE = 0.2
"""Seconds after which the storage's thread has nothing left to do, and the lease is still kept."""


@dataclass
class Pizza:
    """What the update changes."""

    count: int = 0


class Call(NamedTuple):
    """One call of a function of chatsession."""

    depth: int
    file: str
    function: str


async def calls_of_one_update(folder: Path) -> list[Call]:
    """Handle some updates of one chat, and count the calls of the last one.

    Args:
        folder: where the SQLite file is made.

    Returns:
        The calls in all threads, in the order in which they began, each with its depth in the stack of its thread.
    """
    dp, bot = Dispatcher(disable_fsm=True), Bot("42:TEST")

    @dp.message()
    async def handler(message: Message, session: Pizza) -> None:  # pyright: ignore[reportUnusedFunction]
        session.count += 1

    with _profiled() as calls:
        async with SessionManager(Pizza, storage=f"sqlite:///{folder / 'calls.db'}") as sessions:
            setup_sessions(dp, sessions)
            for number in range(_WARM_UP):
                await dp.feed_update(bot, _update(number, bot))
            await asyncio.sleep(_SETTLED)
            await dp.feed_update(bot, _update(_WARM_UP, bot))
            await asyncio.sleep(_IDLE)
            calls.clear()
            await dp.feed_update(bot, _update(_WARM_UP + 1, bot))
            await asyncio.sleep(_IDLE)
            return calls.copy()


@contextmanager
def _profiled() -> Generator[list[Call]]:
    """Collect the calls of this thread, and of threads that start meanwhile.

    To the profiler, a coroutine that is resumed and, before Python 3.12, a comprehension are calls, too.
    """
    calls: list[Call] = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and _is_ours(frame.f_code):
            file = Path(frame.f_code.co_filename).relative_to(SOURCE)
            calls.append(Call(_depth(frame), str(file), frame.f_code.co_qualname))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(str(SOURCE))


def _depth(frame: FrameType) -> int:
    depth, outer = 0, frame.f_back
    while outer is not None:
        depth += _is_ours(outer.f_code)
        outer = outer.f_back
    return depth


def _update(number: int, bot: Bot) -> Update:
    user = {"id": 1, "is_bot": False, "first_name": "Ann"}
    message = {"message_id": 1, "date": 0, "chat": {"id": 1, "type": "private"}, "from": user, "text": "hi"}
    return Update.model_validate({"update_id": number, "message": message}, context={"bot": bot})


def main() -> int:
    """Print the calls; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        calls = asyncio.run(calls_of_one_update(Path(folder)))
    for call in calls:
        print(f"{'  ' * call.depth}{call.function}  ({call.file})")
    print(f"{len(calls)} calls in {len({call.file for call in calls})} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
