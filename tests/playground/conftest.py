from collections.abc import AsyncIterator

import pytest
from aiogram import Bot
from chatsession_playground.bot_api import BotApiServer
from playground_bots import aiogram_bot


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as server:
        yield server


@pytest.fixture
async def bot(api: BotApiServer) -> AsyncIterator[Bot]:
    async with aiogram_bot(api) as bot:
        yield bot
