from collections.abc import AsyncIterator

import pytest

from chatsession.playground.bot_api import BotApiServer


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as server:
        yield server
