"""aiogram-dialog beside sessions: windows, and updates that its background managers make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.filters import Command
from aiogram.fsm.state import State, StatesGroup
from aiogram.types import Message
from aiogram_aids import CountingStorage, Pizza
from aiogram_dialog import (
    BaseDialogManager,
    BgManagerFactory,
    Dialog,
    DialogManager,
    ShowMode,
    StartMode,
    Window,
    setup_dialogs,
)
from aiogram_dialog.widgets.text import Format

from chatsession import SessionManager, per_user, per_user_in_chat
from chatsession.integrations.aiogram import SessionContext, setup_sessions
from chatsession_playground.bot_api import BotApiServer, Chat


class Menu(StatesGroup):
    main = State()


class PlainSession(AiohttpSession):
    """Leaves out the quarter of a second that aiogram waits on closing for the end of TLS, of which there is none."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def count(dialog_manager: DialogManager, ctx: SessionContext[Pizza], **data: Any) -> dict[str, int]:
    pizza = await ctx.load_session()
    pizza.count += 1
    return {"count": pizza.count}


async def open_menu(message: Message, dialog_manager: DialogManager) -> None:
    await dialog_manager.start(Menu.main, mode=StartMode.RESET_STACK)


@asynccontextmanager
async def running(
    sessions: SessionManager[Pizza], *, dialogs_first: bool = False
) -> AsyncIterator[tuple[BotApiServer, Bot, BgManagerFactory]]:
    """A bot with one dialog, whose window counts how often it was shown."""
    dp = Dispatcher()
    if not dialogs_first:
        setup_sessions(dp, sessions)
    dp.message.register(open_menu, Command("menu"))
    dp.include_router(Dialog(Window(Format("{count}"), state=Menu.main, getter=count)))
    managers = setup_dialogs(dp)
    if dialogs_first:
        setup_sessions(dp, sessions)
    async with BotApiServer() as api:
        session = PlainSession(api=TelegramAPIServer.from_base(api.url))
        async with asyncio.timeout(120), Bot(api.token, session=session) as bot:
            polling = asyncio.create_task(dp.start_polling(bot, handle_signals=False, close_bot_session=False))
            await api.idle()
            try:
                yield api, bot, managers
            finally:
                await dp.stop_polling()
                await polling


async def texts(chat: Chat, number: int) -> list[str]:
    return [(await chat.receive()).text for _ in range(number)]


@pytest.mark.parametrize("dialogs_first", [False, True])
async def test_background_updates_have_the_session_of_their_chat(storage: CountingStorage, dialogs_first: bool) -> None:
    sessions = SessionManager(Pizza, storage=storage)
    async with running(sessions, dialogs_first=dialogs_first) as (api, bot, managers):
        ann = api.private_chat(1)
        ann.send("/menu")
        assert await texts(ann, 1) == ["1"]
        background = managers.bg(bot, user_id=1, chat_id=1)
        await background.update({}, show_mode=ShowMode.DELETE_AND_SEND)
        await background.switch_to(Menu.main, show_mode=ShowMode.DELETE_AND_SEND)
        await background.start(Menu.main, show_mode=ShowMode.DELETE_AND_SEND)
        assert sorted(await texts(ann, 3)) == ["2", "3", "4"]
    async with sessions:
        assert await sessions.get(1) == Pizza(4)


@pytest.mark.parametrize(("key_function", "key"), [(per_user, "1"), (per_user_in_chat, "1:1")])
async def test_background_updates_have_a_user_too(storage: CountingStorage, key_function: Any, key: str) -> None:
    sessions = SessionManager(Pizza, storage=storage, get_session_key=key_function)
    async with running(sessions) as (api, bot, managers):
        ann = api.private_chat(1)
        await managers.bg(bot, user_id=1, chat_id=1).start(Menu.main, show_mode=ShowMode.DELETE_AND_SEND)
        assert await texts(ann, 1) == ["1"]
    async with sessions:
        assert [stored async for stored, _ in sessions.entries()] == [key]


async def test_background_updates_are_not_taken_for_one_delivered_again(storage: CountingStorage) -> None:
    """aiogram-dialog gives all of them the id 0."""
    sessions = SessionManager(Pizza, storage=storage, deduplicate=10)
    async with running(sessions) as (api, bot, managers):
        ann = api.private_chat(1)
        for _ in range(3):
            await managers.bg(bot, user_id=1, chat_id=1).start(Menu.main, show_mode=ShowMode.DELETE_AND_SEND)
        assert sorted(await texts(ann, 3)) == ["1", "2", "3"]


@pytest.mark.skipif(not hasattr(BaseDialogManager, "fg"), reason="this aiogram-dialog has none")
async def test_a_handler_works_in_the_foreground_of_a_background_manager(storage: CountingStorage) -> None:
    sessions = SessionManager(Pizza, storage=storage)
    async with running(sessions) as (api, bot, managers):
        ann = api.private_chat(1)
        ann.send("/menu")
        await texts(ann, 1)
        async with managers.bg(bot, user_id=1, chat_id=1).fg() as manager:
            ctx: SessionContext[Pizza] = manager.middleware_data["ctx"]
            (await ctx.load_session()).toppings.append("cheese")
    async with sessions:
        pizza = await sessions.get(1)
        assert pizza is not None
        assert pizza.toppings == ["cheese"]
