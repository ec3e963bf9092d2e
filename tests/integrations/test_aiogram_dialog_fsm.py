"""aiogram-dialog on our FSM storage: stacks and contexts belong to the unit of the update that changes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiogram import Dispatcher
from aiogram.filters import CommandStart
from aiogram.fsm.state import State, StatesGroup
from aiogram.types import CallbackQuery, Message
from aiogram_aids import CountingStorage, Pizza
from aiogram_dialog import BaseDialogManager, BgManagerFactory, Dialog, DialogManager, StartMode, Window, setup_dialogs
from aiogram_dialog.test_tools import BotClient, MockMessageManager
from aiogram_dialog.test_tools.keyboard import InlineButtonTextLocator
from aiogram_dialog.widgets.kbd import Button
from aiogram_dialog.widgets.text import Const, Format

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_fsm, setup_sessions


class Menu(StatesGroup):
    main = State()


class Bot:
    """A dispatcher with one dialog, which counts the clicks on its button."""

    def __init__(self, storage: Any, *, user_id: int = 1, chat_id: int = 1) -> None:
        self.dp = Dispatcher()
        self.fsm = setup_fsm(self.dp, storage)
        self.shown = MockMessageManager()
        self.bg: BgManagerFactory = setup_dialogs(
            self.dp, message_manager=self.shown, events_isolation=self.fsm.create_isolation()
        )
        self.fails = False
        self.clicking: asyncio.Event | None = None
        self.own: BaseDialogManager
        self.dp.include_router(
            Dialog(
                Window(
                    Format("{dialog_data[count]} {dialog_data[told]}"),
                    Button(Const("click"), id="click", on_click=self.click),
                    state=Menu.main,
                    getter=self.getter,
                )
            )
        )
        self.dp.message.register(self.start, CommandStart())
        self.client = BotClient(
            self.dp, user_id=user_id, chat_id=chat_id, chat_type="private" if chat_id > 0 else "group"
        )

    async def getter(self, dialog_manager: DialogManager, **_: Any) -> dict[str, Any]:
        for name in ("count", "told"):
            dialog_manager.dialog_data.setdefault(name, 0)
        return {"dialog_data": dialog_manager.dialog_data}

    async def start(self, message: Message, dialog_manager: DialogManager) -> None:
        await dialog_manager.start(Menu.main, mode=StartMode.RESET_STACK)

    async def click(self, query: CallbackQuery, button: Button, manager: DialogManager) -> None:
        count = manager.dialog_data.get("count", 0)
        self.own = manager.bg()
        if self.clicking is not None:
            self.clicking.set()
            for _ in range(50):  # what is sent to the background gets as far as it can
                await asyncio.sleep(0)
        manager.dialog_data["count"] = count + 1
        if self.fails:
            await manager.start(Menu.main)
            raise RuntimeError

    async def press(self, message: Message | None = None) -> None:
        await self.client.click(message or self.shown.last_message(), InlineButtonTextLocator("click"))

    @property
    def text(self) -> str | None:
        return self.shown.last_message().text

    async def told(self, text: str) -> None:
        """Wait until an update that was sent to the background has shown this."""
        while self.text != text:  # noqa: ASYNC110 - aiogram-dialog has no other sign
            await asyncio.sleep(0.001)


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    bot = Bot(CountingStorage())
    await bot.dp.emit_startup()
    await bot.client.send("/start")
    yield bot
    await bot.dp.emit_shutdown()


async def test_a_dialog_survives_a_restart(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'bot.db'}"
    first = Bot(url)
    await first.dp.emit_startup()
    await first.client.send("/start")
    await first.press()
    await first.dp.emit_shutdown()
    second = Bot(url)
    await second.dp.emit_startup()
    await second.press(first.shown.last_message())
    assert second.text == "2 0"
    await second.dp.emit_shutdown()


async def test_clicks_that_come_at_once_all_count(bot: Bot) -> None:
    message = bot.shown.last_message()
    await asyncio.gather(*[bot.press(message) for _ in range(20)])
    assert bot.text == "20 0"


async def test_a_failing_click_leaves_stack_and_context(bot: Bot) -> None:
    await bot.press()
    message = bot.shown.last_message()
    before = [entry async for entry in bot.fsm.sessions.entries()]
    bot.fails = True
    with pytest.raises(RuntimeError):
        await bot.press(message)
    assert [entry async for entry in bot.fsm.sessions.entries()] == before
    bot.fails = False
    await bot.press(message)
    assert bot.text == "2 0"


async def test_a_background_update(bot: Bot) -> None:
    await bot.bg.bg(bot.client.bot, 1, 1).update({"told": 7})
    async with asyncio.timeout(60):
        await bot.told("0 7")
    await bot.press()
    assert bot.text == "1 7"


async def test_a_background_update_beside_a_click_loses_neither(bot: Bot) -> None:
    for number in range(1, 11):
        bot.clicking = asyncio.Event()
        click = asyncio.ensure_future(bot.press())
        await bot.clicking.wait()
        await bot.own.update({"told": number})
        async with asyncio.timeout(60):
            await asyncio.gather(click, bot.told(f"{number} {number}"))


async def test_a_background_update_for_a_user_of_a_group() -> None:
    bots = [Bot("memory:", user_id=user, chat_id=-100) for user in (1,)]
    bot = bots[0]
    await bot.dp.emit_startup()
    await bot.client.send("/start")
    await bot.bg.bg(bot.client.bot, 1, -100).update({"told": 3})
    async with asyncio.timeout(60):
        await bot.told("0 3")
    await bot.dp.emit_shutdown()


@pytest.mark.skipif(not hasattr(BaseDialogManager, "fg"), reason="this aiogram-dialog has none")
async def test_foreground_of_a_dialog(bot: Bot) -> None:
    async with bot.bg.bg(bot.client.bot, 1, 1).fg() as manager:
        manager.dialog_data["told"] = 5
        await manager.show()
    await bot.press()
    assert bot.text == "1 5"


async def test_dialogs_beside_a_session() -> None:
    bot = Bot("memory:")
    sessions = SessionManager(Pizza, storage=bot.fsm.sessions.storage)
    setup_sessions(bot.dp, sessions)

    async def on_start(message: Message, dialog_manager: DialogManager, session: Pizza) -> None:
        session.count += 1
        await dialog_manager.start(Menu.main, mode=StartMode.RESET_STACK)

    bot.dp.message.handlers.clear()
    bot.dp.message.register(on_start, CommandStart())
    await bot.dp.emit_startup()
    await bot.client.send("/start")
    await bot.press()
    assert (bot.text, await sessions.get(1)) == ("1 0", Pizza(1))
    await bot.dp.emit_shutdown()


async def test_the_isolation_is_that_of_all_processes(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'bot.db'}"
    bots = [Bot(url) for _ in range(2)]
    for each in bots:
        await each.dp.emit_startup()
    await bots[0].client.send("/start")
    message = bots[0].shown.last_message()
    await asyncio.gather(*[each.press(message) for _ in range(10) for each in bots])
    await bots[0].press(message)
    assert bots[0].text == "21 0"
    for each in bots:
        await each.dp.emit_shutdown()


async def test_nothing_of_a_finished_dialog_stays(bot: Bot) -> None:
    await bot.client.send("/start")
    keys = [key async for key, _ in bot.fsm.sessions.entries()]
    assert sorted(key.split("#")[1].split(":")[1] for key in keys) == ["context", "stack"]
