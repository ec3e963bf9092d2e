"""Real aiogram bots that talk to the playground's server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer

from chatsession_playground.bot_api import Audience, BotApiServer


class PlainSession(AiohttpSession):
    """Leaves out the quarter of a second that aiogram waits on closing for the end of TLS, of which there is none."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


@asynccontextmanager
async def aiogram_bot(api: BotApiServer, token: str = "") -> AsyncGenerator[Bot]:
    session = PlainSession(api=TelegramAPIServer.from_base(api.url))
    async with Bot(token or api.token, session=session) as bot:
        yield bot


@asynccontextmanager
async def polling(api: BotApiServer, dispatcher: Dispatcher, audience: Audience | None = None) -> AsyncGenerator[Bot]:
    """Run a dispatcher with aiogram's long polling."""
    async with aiogram_bot(api, audience.token if audience else "") as bot:
        task = asyncio.create_task(dispatcher.start_polling(bot, handle_signals=False, close_bot_session=False))
        await (audience or api).idle()
        try:
            yield bot
        finally:
            await dispatcher.stop_polling()
            await task
