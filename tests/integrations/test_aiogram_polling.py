"""aiogram's polling here: an update is confirmed to Telegram when it is done."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import ErrorEvent, FSInputFile, InlineKeyboardButton, InlineKeyboardMarkup, Message
from waiting_aids import retry_quickly, until

from chatsession import SessionActionError, SessionManager, StorageUnavailableError
from chatsession.integrations.aiogram import SessionContext, setup_sessions, start_polling
from chatsession.storages import Action, Change
from chatsession.storages.sqlite import SQLiteStorage
from chatsession_playground.bot_api import BotApiServer

Counts = dict[str, int]


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as api:
        yield api


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    retry_quickly(monkeypatch)


def bot_of(api: BotApiServer) -> Bot:
    return Bot(api.token, session=AiohttpSession(api=TelegramAPIServer.from_base(api.url)))


class Life:
    """A bot at work."""

    def __init__(self, api: BotApiServer, sessions: SessionManager[Any]) -> None:
        self.api = api
        self.dp = Dispatcher()
        self.seen: list[str | None] = []
        self.opened = asyncio.Event()
        setup_sessions(self.dp, sessions)

        @self.dp.message()
        async def count(message: Message, session: Counts, ctx: SessionContext[Counts]) -> None:
            self.seen.append(message.text)
            if message.text == "slow":
                await self.opened.wait()
            session["count"] = session.get("count", 0) + 1
            ctx.after_commit(message.answer(str(session["count"])))
            if message.text == "burn":
                raise ZeroDivisionError

    @asynccontextmanager
    async def polling(self, **options: Any) -> AsyncGenerator[asyncio.Task[None]]:
        task = asyncio.create_task(start_polling(self.dp, bot_of(self.api), **options))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])


def manager(path: Path, *, deduplicate: int = 100) -> SessionManager[Counts]:
    return SessionManager(dict[str, int], storage=f"sqlite:///{path}/bot.db", deduplicate=deduplicate)


async def test_what_was_under_way_in_a_crash_is_handled_by_the_next(api: BotApiServer, tmp_path: Path) -> None:
    ann = api.private_chat(1001)
    ann.send("slow")
    ann.send("next")
    first = Life(api, manager(tmp_path))
    async with first.polling(handle_signals=False):
        await until(lambda: first.seen)
    second = Life(api, manager(tmp_path))
    second.opened.set()
    async with second.polling(handle_signals=False):
        assert [(await ann.receive()).text for _ in range(2)] == ["1", "2"]
        await api.idle()
    assert second.seen == ["slow", "next"]


@pytest.mark.parametrize("swallowed", [False, True])
async def test_an_update_that_was_not_stored_is_handled_again(
    api: BotApiServer, tmp_path: Path, swallowed: bool
) -> None:
    class FailingOnce(SQLiteStorage):
        failures = 1

        async def commit_many(self, changes: Sequence[Change]) -> Any:
            if self.failures and any(change.key == "1001" and change.action is Action.PUT for change in changes):
                self.failures -= 1
                return [StorageUnavailableError("the disk is away", key=change.key) for change in changes]
            return await super().commit_many(changes)

    storage = FailingOnce(tmp_path / "bot.db")
    life, ann = Life(api, SessionManager(dict[str, int], storage=storage, deduplicate=100)), api.private_chat(1001)
    if swallowed:

        @life.dp.error()
        async def on_error(event: ErrorEvent) -> None: ...

    async with life.polling(handle_signals=False):
        ann.send("hello")
        assert (await ann.receive()).text == "1"
        await api.idle()
    assert (life.seen, storage.failures) == (["hello", "hello"], 0)


async def test_it_ends_at_sigterm_when_what_runs_is_done(
    api: BotApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "chatsession")
    life, ann = Life(api, manager(tmp_path)), api.private_chat(1001)
    ann.send("slow")
    async with life.polling() as polling:
        await until(lambda: life.seen)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: "polling stops" in caplog.text)
        ann.send("too late")
        life.opened.set()
        await polling
        assert (await ann.receive()).text == "1"
    assert [update.payload["text"] for update in api.pending] == ["too late"]
    assert life.seen == ["slow"]


async def test_stop_polling_waits_for_what_runs(api: BotApiServer, tmp_path: Path) -> None:
    life, ann = Life(api, manager(tmp_path)), api.private_chat(1001)
    ann.send("slow")
    async with life.polling(handle_signals=False) as polling:
        await until(lambda: life.seen)
        stopping = asyncio.create_task(life.dp.stop_polling())
        await asyncio.sleep(0)
        assert not stopping.done()
        life.opened.set()
        await stopping
        await polling
    assert (await ann.receive()).text == "1"
    assert api.pending == []
    with pytest.raises(RuntimeError, match="not started"):
        await life.dp.stop_polling()


async def test_no_more_than_the_limit_run_at_a_time(api: BotApiServer, tmp_path: Path) -> None:
    life = Life(api, manager(tmp_path))
    chats = [api.private_chat(1001 + number) for number in range(3)]
    for chat in chats:
        chat.send("slow")
    async with life.polling(handle_signals=False, tasks_concurrency_limit=2):
        await until(lambda: len(life.seen) == 2)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(life.seen) == 2
        life.opened.set()
        assert [(await chat.receive()).text for chat in chats] == ["1", "1", "1"]


@pytest.mark.parametrize(("option", "error"), [("handle_as_tasks", TypeError), ("bot", ValueError)])
async def test_options_that_would_go_to_handlers(
    api: BotApiServer, tmp_path: Path, option: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=option):
        await start_polling(Life(api, manager(tmp_path)).dp, bot_of(api), **{option: False})


async def test_two_processes_that_poll_conflict_and_go_on(
    api: BotApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = manager(tmp_path)
    one, other, ann = Life(api, sessions), Life(api, manager(tmp_path)), api.private_chat(1001)
    async with one.polling(handle_signals=False):
        await api.idle()
        async with other.polling(handle_signals=False):
            await until(lambda: "Conflict" in caplog.text)
        ann.send("hello")
        assert (await ann.receive()).text == "1"


async def test_several_bots_are_polled_for(api: BotApiServer, tmp_path: Path) -> None:
    other = api.bot("43:other")
    life = Life(api, manager(tmp_path))
    second = Bot(other.token, session=AiohttpSession(api=TelegramAPIServer.from_base(api.url)))
    task = asyncio.create_task(start_polling(life.dp, bot_of(api), second, handle_signals=False))
    for audience in (api, other):
        chat = audience.private_chat(1001 if audience is api else 1002)
        chat.send("hello")
        assert (await chat.receive()).text == "1"
    task.cancel()
    await asyncio.wait([task])


async def test_only_kinds_with_handlers_are_asked_for(api: BotApiServer, tmp_path: Path) -> None:
    life = Life(api, manager(tmp_path))
    async with life.polling(handle_signals=False):
        await api.idle()
        assert api._account.allowed_updates == {"message"}


async def test_an_update_of_a_kind_that_is_not_known_is_done(api: BotApiServer, tmp_path: Path) -> None:
    """aiogram's own polling would fail for ever at a batch with one that it cannot parse."""
    life, ann = Life(api, manager(tmp_path)), api.private_chat(1001)
    api.inject("message", {"nonsense": True})
    async with life.polling(handle_signals=False):
        ann.send("hello")
        assert (await ann.receive()).text == "1"
        await api.idle()
        assert api.pending == []


async def test_what_an_action_cannot_be(api: BotApiServer, tmp_path: Path) -> None:
    sessions = manager(tmp_path)
    dp, ann, refused = Dispatcher(), api.private_chat(1001), list[str]()
    setup_sessions(dp, sessions)

    @dp.message()
    async def handler(message: Message, ctx: SessionContext[Counts]) -> None:
        for action in (message.answer_photo(FSInputFile("photo.png")), "noSuchMethod", 42):
            try:
                ctx.after_commit(action)
            except SessionActionError as error:
                refused.append(str(error))
        markup = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="more", callback_data="more")]])
        ctx.after_commit(message.answer("done", reply_markup=markup))

    task = asyncio.create_task(start_polling(dp, bot_of(api), handle_signals=False))
    ann.send("hello")
    assert (await ann.receive()).json["reply_markup"] == {
        "inline_keyboard": [[{"text": "more", "callback_data": "more"}]]
    }
    task.cancel()
    await asyncio.wait([task])
    assert len(refused) == 3
    assert "file" in refused[0]


class TestMaxDeliveries:
    """An update that takes the process down is set aside; those beside it are not."""

    async def crash(self, api: BotApiServer, tmp_path: Path, poison: str) -> Life:
        """One life of a bot that dies when it sees the poison, or lives until all is done."""
        died = asyncio.Event()
        life = Life(api, manager(tmp_path))
        life.opened.set()

        async def die(handler: Any, event: Any, data: Any) -> Any:
            if event.text == poison:
                life.seen.append(poison)
                died.set()
                await asyncio.Event().wait()
            return await handler(event, data)

        life.dp.message.outer_middleware(die)
        async with life.polling(handle_signals=False, max_deliveries=3):
            idle = asyncio.ensure_future(api.idle())
            dead = asyncio.ensure_future(died.wait())
            await asyncio.wait([idle, dead], return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
            dead.cancel()
        return life

    async def test_it_is_set_aside_and_logged_with_its_id(
        self, api: BotApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ann = api.private_chat(1001)
        ann.send("before")
        poison = ann.send("poison")
        ann.send("after")
        for _ in range(3):
            assert "poison" in (await self.crash(api, tmp_path, "poison")).seen
        caplog.set_level(logging.ERROR, "chatsession")
        last = await self.crash(api, tmp_path, "poison")
        assert "poison" not in last.seen
        assert f"update {poison.id} has taken the process down 3 times, and was set aside" in caplog.text
        assert api.pending == []
        async with manager(tmp_path) as sessions:
            assert await sessions.get(1001) == {"count": 2}
            assert [key async for key in sessions.keys()] == ["1001"]  # noqa: SIM118 - it is no dict

    async def test_a_clean_end_blames_nobody(self, api: BotApiServer, tmp_path: Path) -> None:
        ann = api.private_chat(1001)
        for _ in range(6):
            life = Life(api, manager(tmp_path))
            async with life.polling(max_deliveries=2) as polling:
                ann.send("slow")
                await until(lambda seen=life.seen: seen)  # type: ignore[misc] # the type checker knows no such lambda
                os.kill(os.getpid(), signal.SIGTERM)
                life.opened.set()
                await polling
            assert life.seen == ["slow"]

    async def test_fewer_than_two_make_no_sense(self, api: BotApiServer, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="max_deliveries"):
            await start_polling(Life(api, manager(tmp_path)).dp, bot_of(api), max_deliveries=1)
