from collections.abc import AsyncIterator

import pytest

from chatsession_playground.bot_api import BotApiServer


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as server:
        yield server
