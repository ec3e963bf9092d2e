import asyncio
import os
from dataclasses import dataclass
from typing import Any

from telethon import TelegramClient, events  # pyright: ignore[reportMissingTypeStubs] # there are none

from chatsession import SessionManager
from chatsession.integrations.telethon import SessionContext, setup_sessions


@dataclass
class Pizza:
    count: int = 0


sessions = SessionManager(Pizza, storage="sqlite:///bot.db")


async def on_pizza(event: Any, session: Pizza) -> None:
    session.count += 1  # stored when the handler returns
    await event.respond(f"Pizza number {session.count} for this chat!")


async def on_reset(event: Any, ctx: SessionContext[Pizza]) -> None:
    ctx.session = None  # deletes the session
    await event.respond("Forgotten.")


def add_handlers(client: Any) -> None:
    setup_sessions(client, sessions)  # of chats; the client's own session is its login
    client.add_event_handler(on_pizza, events.NewMessage(pattern="🍕"))
    client.add_event_handler(on_reset, events.NewMessage(pattern="/reset"))


async def main() -> None:
    client: Any = TelegramClient("pizza_bot", int(os.environ["API_ID"]), os.environ["API_HASH"])
    add_handlers(client)
    await client.start(bot_token=os.environ["BOT_TOKEN"])
    await client.run_until_disconnected()


if __name__ == "__main__":
    asyncio.run(main())
