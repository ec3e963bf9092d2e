import asyncio
import os
from dataclasses import dataclass

from aiogram import Bot, Dispatcher, F
from aiogram.types import Message

from chatsession import SessionManager
from chatsession.integrations.aiogram import SessionContext, setup_sessions, start_polling


@dataclass
class Pizza:
    count: int = 0


sessions = SessionManager(Pizza, storage="sqlite:///bot.db", deduplicate=100)
dp = Dispatcher()
setup_sessions(dp, sessions)


@dp.message(F.text.contains("🍕"))
async def on_pizza(message: Message, session: Pizza) -> None:
    session.count += 1  # stored when the handler returns
    await message.answer(f"Pizza number {session.count} for this chat!")


@dp.message(F.text == "/reset")
async def on_reset(message: Message, ctx: SessionContext[Pizza]) -> None:
    ctx.session = None  # deletes the session
    await message.answer("Forgotten.")


if __name__ == "__main__":
    asyncio.run(start_polling(dp, Bot(os.environ["BOT_TOKEN"])))
