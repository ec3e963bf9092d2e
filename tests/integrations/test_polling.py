"""Polling in every framework: an update is confirmed to Telegram when it is done, and what a commit sends is sent."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from polling_bots import BOTS, PollingBot, PtbBot
from waiting_aids import retry_quickly, until

from chatsession import SessionManager, StorageUnavailableError
from chatsession.integrations.polling.setup import stopped_by_signals
from chatsession.integrations.telegram_ext import setup_polling
from chatsession.storages import Action, Change
from chatsession.storages.sqlite import SQLiteStorage
from chatsession_playground.bot_api import BotApiServer

PATIENCE = 60


@pytest.fixture
async def api() -> AsyncIterator[BotApiServer]:
    async with BotApiServer() as api:
        yield api


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    retry_quickly(monkeypatch)


@pytest.fixture(params=list(BOTS))
def kind(request: pytest.FixtureRequest) -> type[PollingBot]:
    return BOTS[request.param]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bot.db"


async def count_of(url: str, chat: int) -> int:
    async with SessionManager(dict[str, int], storage=url, deduplicate=100) as sessions:
        return (await sessions.get(chat) or {}).get("count", 0)


def sent(api: BotApiServer) -> int:
    return len([call for call in api.calls if call.method == "sendMessage" and call.error is None])


async def test_an_update_is_confirmed_when_it_is_done(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot, ann, ben = kind(api, url), api.private_chat(1001), api.private_chat(1002, "Ben")
    slow = ann.send("slow")
    async with bot.polling():
        await until(lambda: bot.seen)
        if kind is not BOTS["telebot-unthreaded"]:  # whose only thread is busy
            for number in range(3):
                ben.send("quick")
                assert (await ben.receive()).text == str(number + 1)
        assert api.pending[0].id == slow.id
        bot.open()
        assert (await ann.receive()).text == "1"
        await api.idle()
        assert api.pending == []


async def test_at_the_end_what_runs_is_done_and_confirmed(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    ann.send("slow")
    async with bot.polling():
        await until(lambda: bot.seen)
    assert (await ann.receive()).text == "1"
    assert api.pending == []
    assert await count_of(url, 1001) == 1


async def test_what_has_not_ended_in_time_is_delivered_again(
    api: BotApiServer, url: str, kind: type[PollingBot]
) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    ann.send("slow")
    ann.send("next")
    polling = asyncio.create_task(bot.poll(drain_timeout=0.01))
    await until(lambda: bot.seen)
    await bot.stop()
    for _ in range(50):
        await asyncio.sleep(0.005)
    assert len(api.pending) == 2
    bot.open()  # a thread cannot be cancelled
    await polling
    await bot.close()
    other = kind(api, url)
    other.open()
    async with other.polling():
        await api.idle()
        assert api.pending == []
    assert await count_of(url, 1001) == 2, "what the first has committed is not counted again"


async def test_it_may_be_started_again(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    for count in range(1, 4):
        polling = asyncio.create_task(bot.poll())
        ann.send("hello")
        assert (await ann.receive()).text == str(count)
        await api.idle()
        await bot.stop()
        await polling
    await bot.close()


async def test_a_second_polling_meanwhile_is_refused(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    async with bot.polling():
        await api.idle()
        with pytest.raises(RuntimeError, match=r"already"):
            await bot.poll_again()
        ann.send("hello")
        assert (await ann.receive()).text == "1"
        await api.idle()


@pytest.mark.parametrize("kind", [BOTS[name] for name in BOTS if name != "async-telebot"])
async def test_a_handler_may_stop_the_polling(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    """Its own update is done, and does not stop the next process as well."""
    bot, ann = kind(api, url), api.private_chat(1001)
    ann.send("stop")
    polling = asyncio.create_task(bot.poll(drain_timeout=3600))
    assert (await ann.receive()).text == "1"
    await polling
    assert api.pending == []
    await bot.close()


@pytest.mark.parametrize("kind", [BOTS["async-telebot"], BOTS["telebot"]])
async def test_updates_of_several_kinds_keep_their_order(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    message = ann.send("first").payload
    api.inject("edited_message", {**message, "text": "edited", "edit_date": 1})
    ann.send("after")
    async with bot.polling():
        assert [(await ann.receive()).text for _ in range(3)] == ["1", "2", "3"]
    assert bot.seen == ["first", "edited", "after"]


SIGNAL_IN_A_THREAD = """
import signal, sys
from telebot import TeleBot, apihelper
from chatsession.integrations.telebot import setup_sessions, start_polling
from chatsession.storages.memory import MemoryStorage
from chatsession.sync import SessionManager

class Storage(MemoryStorage):
    async def close(self):
        signal.raise_signal(signal.SIGTERM)
        await super().close()
        print("closed", flush=True)

url, token = sys.argv[1:]
apihelper.API_URL = url + "/bot{0}/{1}"
bot = TeleBot(token)
setup_sessions(bot, SessionManager(dict[str, int], storage=Storage()))

@bot.message_handler()
def on_text(message):
    signal.raise_signal(signal.SIGTERM)

start_polling(bot)
"""
"""A signal wakes no wait of the main thread if another thread gets it, or if it comes just before the wait begins."""


async def test_signals_that_do_not_wake_the_bot_end_it_once(api: BotApiServer) -> None:
    """The second one comes while the storage is closed, and does not interrupt that."""
    api.private_chat(1001).send("hello")
    bot = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", SIGNAL_IN_A_THREAD, api.url, api.token], stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await bot.communicate()
        assert (bot.returncode, said) == (0, b"closed\n")
    finally:
        if bot.returncode is None:
            bot.kill()
            await bot.wait()
    assert api.pending == []


async def test_signals_are_handled_after_polling_as_before() -> None:
    """`asyncio.run` cancels the program at SIGINT, so that it can end well also when polling is over."""

    def own(number: int, frame: object) -> None: ...

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, own) for number in numbers]
    try:
        with stopped_by_signals([], handle_signals=True):
            assert own not in map(signal.getsignal, numbers)
        assert list(map(signal.getsignal, numbers)) == [own, own]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


async def test_an_application_may_stop_before_its_updater(api: BotApiServer, url: str) -> None:
    """What is fetched in between is left to the next process, and nobody waits for it."""
    application: Any = PtbBot(api, url).application
    setup_polling(application, drain_timeout=3600)
    async with application:
        await application.updater.start_polling()
        await application.start()
        await api.idle()
        await application.stop()
        late = api.private_chat(1001).send("late")
        await until(lambda: application.updater._poller._window.running)
        await application.updater.stop()
    assert [update.id for update in api.pending] == [late.id]


@pytest.mark.parametrize("kind", [BOTS["aiogram"], BOTS["ptb"], BOTS["async-telebot"]])
async def test_an_update_whose_handler_is_cancelled_is_done(
    api: BotApiServer, url: str, kind: type[PollingBot]
) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    async with bot.polling():
        ann.send("cancel")
        ann.send("fine")
        assert (await ann.receive()).text == "1"
        await api.idle()
        assert api.pending == []
    assert bot.seen == ["cancel", "fine"]


async def test_a_failed_update_is_done(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    async with bot.polling():
        ann.send("burn")
        ann.send("fine")
        assert (await ann.receive()).text == "1"
        await api.idle()
        assert api.pending == []
    assert bot.seen == ["burn", "fine"]


async def test_an_update_that_was_not_stored_is_handled_again(
    api: BotApiServer, tmp_path: Path, kind: type[PollingBot]
) -> None:
    class FailingOnce(SQLiteStorage):
        failures = 1

        async def commit_many(self, changes: Sequence[Change]) -> Any:
            if self.failures and any(change.key == "1001" and change.action is Action.PUT for change in changes):
                self.failures -= 1
                return [StorageUnavailableError("the disk is away", key=change.key) for change in changes]
            return await super().commit_many(changes)

    storage = FailingOnce(tmp_path / "bot.db")
    bot, ann = kind(api, storage), api.private_chat(1001)
    async with bot.polling():
        ann.send("hello")
        assert (await ann.receive()).text == "1"
        await api.idle()
    assert (bot.seen, storage.failures) == (["hello", "hello"], 0)


async def test_an_answer_that_cannot_be_sent_is_sent_when_telegram_is_back(
    api: BotApiServer, url: str, kind: type[PollingBot]
) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    api.refuse("sendMessage", 502, times=4)
    async with bot.polling():
        ann.send("hello")
        assert (await ann.receive()).text == "1"
        await api.idle()
    assert bot.seen == ["hello"], "the handler does not run again"
    assert sent(api) == 1


@pytest.mark.filterwarnings("ignore:Deprecated since version v22.2")  # of PTB, at any `retry_after`
async def test_refusals_are_dropped_and_waits_are_waited_for(
    api: BotApiServer, url: str, kind: type[PollingBot], caplog: pytest.LogCaptureFixture
) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    api.refuse("sendMessage", 403, description="Forbidden: bot was blocked by the user")
    async with bot.polling():
        ann.send("hello")
        ann.send("again")
        assert (await ann.receive()).text == "2"
        api.refuse("sendMessage", 429, retry_after=1)
        ann.send("and again")
        assert (await ann.receive()).text == "3"
    assert "of after_commit is dropped" in caplog.text
    assert "bot was blocked" in caplog.text


@pytest.mark.parametrize("of", ["sessions", "states"])
async def test_a_full_window_waits_without_asking(api: BotApiServer, url: str, kind: type[PollingBot], of: str) -> None:
    """It is as large as the smallest `deduplicate`."""
    bot, ann = kind(api, url, deduplicate=3 if of == "sessions" else 100), api.private_chat(1001)
    if of == "states":
        if kind.setup_states is PollingBot.setup_states:
            pytest.skip("its states remember no updates")
        bot.setup_states(deduplicate=3)
    for text in ("slow", "a", "b", "c", "d"):
        ann.send(text)
    asked: list[int] = []
    next_updates = api._account.next_updates

    async def noted(**asking: Any) -> Any:
        asked.append(asking["limit"])
        return await next_updates(**asking)

    api._account.next_updates = noted  # type: ignore[method-assign] # `getUpdates` is not among the calls
    async with bot.polling():
        await until(lambda: bot.seen)
        for _ in range(200):
            await asyncio.sleep(0)
        assert asked == [3]
        bot.open()
        assert [(await ann.receive()).text for _ in range(5)] == ["1", "2", "3", "4", "5"]
    assert bot.seen == ["slow", "a", "b", "c", "d"]


async def test_without_deduplicate_it_polls_and_warns(
    api: BotApiServer, url: str, kind: type[PollingBot], caplog: pytest.LogCaptureFixture
) -> None:
    bot, ann = kind(api, url, deduplicate=0), api.private_chat(1001)
    async with bot.polling():
        ann.send("hello")
        assert (await ann.receive()).text == "1"
    assert "an update that a crash interrupts may change them twice" in caplog.text


async def test_an_update_of_a_kind_that_is_not_known_is_done(
    api: BotApiServer, url: str, kind: type[PollingBot]
) -> None:
    bot, ann = kind(api, url), api.private_chat(1001)
    api.inject("something_new", {"what": 1})
    async with bot.polling():
        ann.send("hello")
        assert (await ann.receive()).text == "1"
        await api.idle()
        assert api.pending == []


async def test_fewer_than_two_deliveries_make_no_sense(api: BotApiServer, url: str, kind: type[PollingBot]) -> None:
    bot = kind(api, url)
    with pytest.raises(ValueError, match="max_deliveries"):
        await bot.poll(max_deliveries=1)
    await bot.close()
