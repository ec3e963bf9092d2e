import os
from dataclasses import dataclass

from telebot import TeleBot
from telebot.types import Message

from chatsession.integrations.telebot import SyncSessionContext, setup_sessions, start_polling
from chatsession.sync import SessionManager


@dataclass
class Pizza:
    count: int = 0


sessions = SessionManager(Pizza, storage="sqlite:///bot.db", deduplicate=100)
bot = TeleBot(os.environ["BOT_TOKEN"], num_threads=16)
setup_sessions(bot, sessions)


@bot.message_handler(regexp="🍕")
def on_pizza(message: Message, session: Pizza) -> None:
    session.count += 1  # stored when the handler returns
    bot.send_message(message.chat.id, f"Pizza number {session.count} for this chat!")


@bot.message_handler(commands=["reset"])
def on_reset(message: Message, ctx: SyncSessionContext[Pizza]) -> None:
    ctx.session = None  # deletes the session
    bot.send_message(message.chat.id, "Forgotten.")


if __name__ == "__main__":
    start_polling(bot)
