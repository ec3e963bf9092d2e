"""What sessions add to an update of each framework, beside the state that the framework itself keeps.

The frameworks' own states in memory are plain dictionaries: no update waits for another, what a failing handler
changed stays, and all is gone with the process. That costs less than sessions, which are locked, encoded and
compared, can. What survives the process is compared with what does: SQLite, where each update is on the disk when it
is done, with `PicklePersistence` at its default interval: every 60 s it writes all chats anew for each one that
changed, and a bot that is killed loses what came since. How much that adds to an update depends on how many share a
flush; here it is a bot with 20 updates a second.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from tools.benchmarks import _aiogram, _ptb, _telebot
from tools.benchmarks._chats import IN_FLIGHT
from tools.benchmarks._group import Goal, Group, no_slower, versions
from tools.benchmarks._measure import Contender, Running
from tools.benchmarks.middleware import aiogram_fsm

PTB, PTB_MEMORY, PTB_SQLITE = "PTB, no state", "PTB + chatsession, memory", "PTB + chatsession, SQLite, 200 in flight"
PTB_DATA, PTB_PICKLE = "PTB + chat_data, memory", "PTB + chat_data, PicklePersistence, 20 updates a second"
PTB_PERSISTENCE = "PTB + chat_data, setup_persistence, SQLite, 200 in flight"
TELEBOT, TELEBOT_MEMORY = "telebot, no state", "telebot + chatsession, memory"
TELEBOT_SQLITE, TELEBOT_STATES = "telebot + chatsession, SQLite, 200 in flight", "telebot + StateMemoryStorage"
AIOGRAM, AIOGRAM_MEMORY = "aiogram, no state", "aiogram + chatsession, memory"
AIOGRAM_SQLITE = "aiogram + chatsession, SQLite, 200 in flight"
AIOGRAM_SETUP_FSM = "aiogram + setup_fsm, SQLite, 200 in flight"
AIOGRAM_FSM = "aiogram + FSMContext, SimpleEventIsolation, memory"
_DICTIONARY = (
    "it hands out a dictionary that lies in memory: nothing is encoded or compared, and what a failing handler changed "
    "stays; sessions are rolled back"
)


@asynccontextmanager
async def on_sqlite(
    with_state: Callable[[str, int], AbstractAsyncContextManager[Running]],
) -> AsyncGenerator[Running]:
    """With its state in a new file, 200 in flight."""
    with tempfile.TemporaryDirectory() as folder:
        async with with_state(f"sqlite:///{folder}/bot.db", IN_FLIGHT) as running:
            yield running


@contextmanager
def group() -> Generator[Group]:
    yield Group(
        "An update in each framework, a session of 300 bytes, 1,000 chats",
        [
            Contender(PTB, _ptb.alone, "floor"),
            Contender(PTB_MEMORY, lambda: _ptb.with_sessions("memory:"), "ours", PTB),
            Contender(PTB_DATA, lambda: _ptb.with_chat_data(pickled=False), base=PTB),
            Contender(PTB_SQLITE, lambda: on_sqlite(_ptb.with_sessions), "ours", PTB),
            Contender(PTB_PERSISTENCE, lambda: on_sqlite(_ptb.with_persistence), "ours", PTB),
            Contender(
                PTB_PICKLE,
                lambda: _ptb.with_chat_data(pickled=True),
                base=PTB,
                step=_ptb.UPDATES_A_FLUSH,
                least=_ptb.UPDATES_A_FLUSH,
                warm=0,
            ),
            Contender(TELEBOT, _telebot.alone, "floor"),
            Contender(TELEBOT_MEMORY, lambda: _telebot.with_sessions("memory:"), "ours", TELEBOT),
            Contender(TELEBOT_STATES, _telebot.with_states, base=TELEBOT),
            Contender(TELEBOT_SQLITE, lambda: on_sqlite(_telebot.with_sessions), "ours", TELEBOT),
            Contender(AIOGRAM, _aiogram.alone, "floor"),
            Contender(AIOGRAM_MEMORY, lambda: _aiogram.with_sessions("memory:"), "ours", AIOGRAM),
            Contender(AIOGRAM_FSM, aiogram_fsm, base=AIOGRAM),
            Contender(AIOGRAM_SQLITE, lambda: on_sqlite(_aiogram.with_sessions), "ours", AIOGRAM),
            Contender(AIOGRAM_SETUP_FSM, lambda: on_sqlite(_aiogram.with_setup_fsm), "ours", AIOGRAM),
        ],
        versions("python-telegram-bot", "pyTelegramBotAPI", "aiogram"),
        [
            no_slower(
                (PTB_SQLITE, PTB),
                (PTB_PICKLE, PTB),
                "it writes every 60 s, and what came in between would be lost",
            ),
            no_slower(
                (PTB_PERSISTENCE, PTB),
                (PTB_PICKLE, PTB),
                "it writes every 60 s, and what came in between would be lost",
            ),
            no_slower((PTB_MEMORY, PTB), (PTB_DATA, PTB), _DICTIONARY),
            no_slower((TELEBOT_MEMORY, TELEBOT), (TELEBOT_STATES, TELEBOT), _DICTIONARY),
            no_slower((AIOGRAM_MEMORY, AIOGRAM), (AIOGRAM_FSM, AIOGRAM), _DICTIONARY),
            Goal(
                f"time of {AIOGRAM_SETUP_FSM}, against {AIOGRAM_FSM}",
                AIOGRAM_SETUP_FSM,
                AIOGRAM_FSM,
                at_most=1.5,
                why="each update is on the disk when it is done",
            ),
        ],
        times=2,
    )
