import os
from dataclasses import dataclass

from pyrogram import Client, filters
from pyrogram.types import Message

from chatsession import SessionManager
from chatsession.integrations.pyrogram import SessionContext, setup_sessions


@dataclass
class Pizza:
    count: int = 0


sessions = SessionManager(Pizza, storage="sqlite:///bot.db")
app = Client(
    "pizza_bot",
    api_id=int(os.environ["API_ID"]),
    api_hash=os.environ["API_HASH"],
    bot_token=os.environ["BOT_TOKEN"],
)
setup_sessions(app, sessions)  # of chats; the client's own session is its login


@app.on_message(filters.regex("🍕"))
async def on_pizza(client: Client, message: Message, session: Pizza) -> None:
    session.count += 1  # stored when the handler returns
    await message.reply(f"Pizza number {session.count} for this chat!")


@app.on_message(filters.command("reset"))
async def on_reset(client: Client, message: Message, ctx: SessionContext[Pizza]) -> None:
    ctx.session = None  # deletes the session
    await message.reply("Forgotten.")


if __name__ == "__main__":
    app.run()
