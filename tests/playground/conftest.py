from collections.abc import AsyncIterator

import pytest
from aiogram import Bot
from playground_bots import aiogram_bot

from chatsession_playground.bot_api import BotApiServer


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as server:
        yield server


@pytest.fixture
async def bot(api: BotApiServer) -> AsyncIterator[Bot]:
    async with aiogram_bot(api) as bot:
        yield bot
