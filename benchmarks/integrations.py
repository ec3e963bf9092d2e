"""What sessions add to an update of each framework, beside the state that the framework itself keeps.

The frameworks' own states in memory are plain dictionaries: no update waits for another, what a failing handler
changed stays, and all is gone with the process. That costs less than sessions, which are locked, encoded and
compared, can. What survives the process is compared with what does: SQLite, where each update is on the disk when it
is done, with `PicklePersistence`, which writes all chats anew for each one that changed, here once for all updates of
a round (a bot does so every 60 s, and loses what came since when it is killed).
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks import _aiogram, _ptb, _telebot
from benchmarks._chats import IN_FLIGHT, total_of
from benchmarks._group import Goal, Group, versions
from benchmarks._measure import Contender, Running
from benchmarks._pizza import Pizza
from benchmarks.middleware import aiogram_fsm, aiogram_session
from chatsession import SessionManager

UPDATES = 4_000

PTB, PTB_MEMORY, PTB_SQLITE = "PTB, no state", "PTB + chatsession, memory", "PTB + chatsession, SQLite, 200 in flight"
PTB_DATA, PTB_PICKLE = "PTB + chat_data, memory", "PTB + chat_data, PicklePersistence, one flush at the end"
TELEBOT, TELEBOT_MEMORY = "telebot, no state", "telebot + chatsession, memory"
TELEBOT_SQLITE, TELEBOT_STATES = "telebot + chatsession, SQLite, 200 in flight", "telebot + StateMemoryStorage"
AIOGRAM, AIOGRAM_MEMORY = "aiogram, no state", "aiogram + chatsession, memory"
AIOGRAM_SQLITE = "aiogram + chatsession, SQLite, 200 in flight"
AIOGRAM_FSM = "aiogram + FSMContext, SimpleEventIsolation, memory"


@asynccontextmanager
async def ptb_sqlite() -> AsyncGenerator[Running]:
    with _database() as url:
        async with _ptb.with_sessions(url, IN_FLIGHT) as running:
            yield running


@asynccontextmanager
async def telebot_sqlite() -> AsyncGenerator[Running]:
    with _database() as url:
        async with _telebot.with_sessions(url, IN_FLIGHT) as running:
            yield running


@asynccontextmanager
async def aiogram_sqlite() -> AsyncGenerator[Running]:
    with _database() as url:
        async with SessionManager(Pizza, storage=url) as sessions:
            yield Running(_aiogram.with_sessions(sessions, IN_FLIGHT), lambda: total_of(sessions))


@contextmanager
def _database() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/bot.db"


@contextmanager
def group() -> Iterator[Group]:
    yield Group(
        "An update in each framework, a session of 300 bytes, 1,000 chats",
        [
            Contender(PTB, UPDATES, _ptb.alone),
            Contender(PTB_MEMORY, UPDATES, lambda: _ptb.with_sessions("memory:")),
            Contender(PTB_DATA, UPDATES, lambda: _ptb.with_chat_data(pickled=False)),
            Contender(PTB_SQLITE, UPDATES, ptb_sqlite),
            Contender(PTB_PICKLE, UPDATES, lambda: _ptb.with_chat_data(pickled=True)),
            Contender(TELEBOT, UPDATES, _telebot.alone),
            Contender(TELEBOT_MEMORY, UPDATES, lambda: _telebot.with_sessions("memory:")),
            Contender(TELEBOT_STATES, UPDATES, _telebot.with_states),
            Contender(TELEBOT_SQLITE, UPDATES, telebot_sqlite),
            Contender(AIOGRAM, UPDATES, _aiogram.alone),
            Contender(AIOGRAM_MEMORY, UPDATES, aiogram_session),
            Contender(AIOGRAM_FSM, UPDATES, aiogram_fsm),
            Contender(AIOGRAM_SQLITE, UPDATES, aiogram_sqlite),
        ],
        versions("python-telegram-bot", "pyTelegramBotAPI", "aiogram"),
        [
            Goal(
                "what SQLite sessions add to PTB, against chat_data with PicklePersistence",
                (PTB_SQLITE, PTB),
                (PTB_PICKLE, PTB),
                at_most=1,
            ),
            Goal(
                "what memory sessions add to telebot, against StateMemoryStorage",
                (TELEBOT_MEMORY, TELEBOT),
                (TELEBOT_STATES, TELEBOT),
                at_most=1,
            ),
        ],
    )
