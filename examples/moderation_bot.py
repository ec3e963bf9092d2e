"""A moderator of busy groups: members who post links are warned, and after three warnings their messages go.

Nearly all messages are fine, and cost nothing: the session is lazy, and is read only for those that are not. Each
member has one in each group, which is forgotten a week after the last warning.
"""

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta

from aiogram import Bot, Dispatcher, F
from aiogram.enums import ChatType
from aiogram.filters import Command
from aiogram.types import Message

from chatsession import SessionManager, per_user_in_chat
from chatsession.integrations.aiogram import LazySessionContext, setup_sessions, start_polling

ADMIN = int(os.environ["ADMIN"])  # the id of the user who may forgive
WARNINGS = 3


@dataclass
class Member:
    warnings: int = 0
    deleted: int = 0


members = SessionManager(
    Member,
    storage="sqlite:///moderation.db",
    get_session_key=per_user_in_chat,
    ttl=timedelta(days=7),
    deduplicate=100,
)
dp = Dispatcher()
setup_sessions(dp, members, lazy=True)


@dp.message(F.chat.type.in_({ChatType.GROUP, ChatType.SUPERGROUP}), F.text.regexp(r"https?://|t\.me/", mode="search"))
async def on_link(message: Message, ctx: LazySessionContext[Member]) -> None:
    member = await ctx.session
    if member.warnings < WARNINGS:
        member.warnings += 1
        await message.reply(f"No links here, please. Warning {member.warnings} of {WARNINGS}.")
    else:
        member.deleted += 1
        await message.delete()


@dp.message(Command("forgive"), F.from_user.id == ADMIN, F.reply_to_message.from_user)
async def on_forgive(message: Message) -> None:
    """Said by the administrator in reply to a message: its author begins anew."""
    answered = message.reply_to_message
    if answered is None or answered.from_user is None:
        return
    async with members.open(f"{message.chat.id}:{answered.from_user.id}") as member:  # not the session of who writes
        member.data = None
    await message.reply(f"{answered.from_user.full_name} is forgiven.")


if __name__ == "__main__":
    asyncio.run(start_polling(dp, Bot(os.environ["BOT_TOKEN"])))
