import asyncio
import os
from dataclasses import dataclass

from telebot.async_telebot import AsyncTeleBot
from telebot.types import Message

from chatsession import SessionManager
from chatsession.integrations.telebot import SessionContext, setup_sessions, start_polling


@dataclass
class Pizza:
    count: int = 0


sessions = SessionManager(Pizza, storage="sqlite:///bot.db", deduplicate=100)
bot = AsyncTeleBot(os.environ["BOT_TOKEN"])
setup_sessions(bot, sessions)


@bot.message_handler(regexp="🍕")
async def on_pizza(message: Message, session: Pizza) -> None:
    session.count += 1  # stored when the handler returns
    await bot.send_message(message.chat.id, f"Pizza number {session.count} for this chat!")


@bot.message_handler(commands=["reset"])
async def on_reset(message: Message, ctx: SessionContext[Pizza]) -> None:
    ctx.session = None  # deletes the session
    await bot.send_message(message.chat.id, "Forgotten.")


if __name__ == "__main__":
    asyncio.run(start_polling(bot))
