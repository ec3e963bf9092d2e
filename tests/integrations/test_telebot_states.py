"""telebot's states on our storages: `StateStorageBase` in full, and one unit of work for each update."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiogram_aids import ANN, BEN, CountingStorage, Pizza, group, inline_query, message
from telebot import TeleBot
from telebot.async_telebot import AsyncTeleBot
from telebot.asyncio_filters import StateFilter
from telebot.asyncio_handler_backends import ContinueHandling
from telebot.asyncio_storage import StateMemoryStorage, StatePickleStorage
from telebot.states import State, StatesGroup
from telebot.states.asyncio import StateContext, StateMiddleware
from telebot.storage import StateMemoryStorage as SyncMemoryStorage
from telebot.types import Message
from telebot_aids import feed, make_bot
from telebot_threads_aids import QuietThreadBot, parsed

from chatsession import SessionClosedError, SessionConflictError, SessionEncodeError, SessionManager, per_user, sync
from chatsession.integrations.telebot import SessionStateStorage, SyncSessionStateStorage, setup_fsm, setup_sessions


class Order(StatesGroup):
    size = State()
    address = State()


class Moved:
    """What is asked of a storage for one user."""

    def __init__(self, storage: Any, *, chat_id: int = 1, user_id: int = 1, **rest: Any) -> None:
        self.storage = storage
        self.ids = {"chat_id": chat_id, "user_id": user_id, "bot_id": 42, **rest}

    async def ask(self, call: str, **given: Any) -> Any:
        return await getattr(self.storage, call)(**self.ids, **given)


@pytest.fixture
async def storage() -> AsyncIterator[SessionStateStorage]:
    storage = SessionStateStorage(CountingStorage())
    yield storage
    await storage.close()


@pytest.fixture
def errors() -> list[BaseException]:
    return []


@pytest.fixture
def bot(storage: SessionStateStorage, errors: list[BaseException]) -> AsyncTeleBot:
    bot = make_bot(errors)
    bot.add_custom_filter(StateFilter(bot))
    setup_fsm(bot, storage)
    return bot


@pytest.mark.parametrize("first", ["from", "to"])
async def test_the_states_of_a_group_follow_it(bot: AsyncTeleBot, storage: SessionStateStorage, first: str) -> None:
    ann, ben = (Moved(storage, chat_id=-5, user_id=user) for user in (1, 2))
    await ann.ask("set_state", state=Order.size)
    await ben.ask("set_state", state=Order.address)
    told = [
        message("", chat=group(-1005), migrate_from_chat_id=-5),
        message("", chat=group(-5), migrate_to_chat_id=-1005),
    ]
    await feed(bot, *(told if first == "from" else reversed(told)))
    assert [await Moved(storage, chat_id=-1005, user_id=user).ask("get_state") for user in (1, 2)] == [
        "Order:size",
        "Order:address",
    ]


def test_the_states_of_a_group_follow_it_in_a_telebot(tmp_path: Path) -> None:
    states = SyncSessionStateStorage(f"sqlite:///{tmp_path}/bot.db")
    bot = QuietThreadBot([], threaded=False, state_storage=states)
    with sync.SessionManager(Pizza, storage="memory:") as sessions:
        setup_sessions(bot, sessions)
        bot.register_message_handler(lambda message: None, commands=["start"])
        states.set_state(-5, 1, Order.size, bot_id=42)
        bot.process_new_updates([parsed(message("", chat=group(-5), migrate_to_chat_id=-1005))])
        assert states.get_state(-1005, 1, bot_id=42) == "Order:size"
    states.close()


class TestStorage:
    @pytest.mark.parametrize("make", [SessionStateStorage, StateMemoryStorage], ids=["ours", "the framework's"])
    async def test_it_does_what_the_frameworks_own_does(self, make: type[Any]) -> None:
        ann, ben = (Moved(make(), user_id=user) for user in (1, 2))
        assert await ann.ask("get_state") is None
        assert await ann.ask("get_data") == {}
        assert await ann.ask("delete_state") is False
        assert await ann.ask("reset_data") is False
        assert await ann.ask("save", data={"lost": 1}) is False
        with pytest.raises(RuntimeError):
            await ann.ask("set_data", key="size", value="big")
        assert await ann.ask("set_state", state=Order.size) is True
        assert await ann.ask("get_state") == "Order:size"
        assert await ann.ask("set_data", key="size", value="big") is True
        assert await ann.ask("set_data", key="cart", value={"salami": 2}) is True
        assert await ann.ask("get_data") == {"size": "big", "cart": {"salami": 2}}
        async with ann.storage.get_interactive_data(**ann.ids) as data:
            data["cart"]["salami"] += 1
            del data["size"]
        assert await ann.ask("get_data") == {"cart": {"salami": 3}}
        assert await ann.ask("save", data={"new": 1}) is True
        assert await ann.ask("set_state", state="text") is True
        assert await ann.ask("get_data") == {"new": 1}
        assert await ann.ask("reset_data") is True
        assert (await ann.ask("get_state"), await ann.ask("get_data")) == ("text", {})
        assert await ben.ask("get_state") is None
        assert await ann.ask("delete_state") is True
        assert await ann.ask("get_state") is None

    async def test_numbers_as_states(self, storage: SessionStateStorage) -> None:
        await storage.set_state(1, 1, 0)
        assert await storage.get_state(1, 1) == 0
        await storage.set_data(1, 1, "x", 1)

    async def test_all_ids_tell_conversations_apart(self, storage: SessionStateStorage) -> None:
        different: list[dict[str, Any]] = [
            {"chat_id": 1, "user_id": 1},
            {"chat_id": 2, "user_id": 1},
            {"chat_id": 1, "user_id": 2},
            {"chat_id": 1, "user_id": 1, "bot_id": 42},
            {"chat_id": 1, "user_id": 1, "message_thread_id": 7},
            {"chat_id": 1, "user_id": 1, "business_connection_id": "7"},
            {"chat_id": 1, "user_id": 1, "business_connection_id": "7", "message_thread_id": 8},
        ]
        for number, ids in enumerate(different):
            await storage.set_state(**ids, state=number)
        assert [await storage.get_state(**ids) for ids in different] == list(range(len(different)))

    async def test_a_block_that_fails_writes_nothing(self, storage: SessionStateStorage) -> None:
        await storage.set_state(1, 1, "on")
        with pytest.raises(ValueError, match="bad"):
            async with storage.get_interactive_data(1, 1) as data:
                data["x"] = 1
                raise ValueError("bad")
        assert await storage.get_data(1, 1) == {}

    async def test_blocks_of_one_user_run_one_after_another(self, storage: SessionStateStorage) -> None:
        async def count() -> None:
            async with storage.get_interactive_data(1, 1) as data:
                before = data.get("count", 0)
                await asyncio.sleep(0)
                data["count"] = before + 1

        await asyncio.gather(*[count() for _ in range(50)])
        assert await storage.get_data(1, 1) == {"count": 50}

    async def test_data_that_is_not_json(self, storage: SessionStateStorage) -> None:
        await storage.set_state(1, 1, "on")
        with pytest.raises(SessionEncodeError, match=r'a object at `\$\.data\["x"\]`'):
            await storage.set_data(1, 1, "x", object())
        with pytest.raises(SessionEncodeError, match=r'a tuple at `\$\.data\["x"\]`'):
            async with storage.get_interactive_data(1, 1) as data:
                data["x"] = (1, 2)
        assert await storage.get_data(1, 1) == {}

    async def test_a_state_that_is_no_state(self, storage: SessionStateStorage) -> None:
        with pytest.raises(TypeError, match="a State, a string or a number, not a list"):
            await storage.set_state(1, 1, [])  # type: ignore[arg-type] # what this is about

    async def test_a_closed_storage(self, storage: SessionStateStorage) -> None:
        await storage.start()
        await storage.close()
        with pytest.raises(SessionClosedError):
            await storage.set_state(1, 1, "on")

    async def test_as_state_storage_of_a_bot(self, tmp_path: Path) -> None:
        for expected in (None, "Order:size"):
            storage = SessionStateStorage(f"sqlite:///{tmp_path / 'bot.db'}")
            bot = AsyncTeleBot("42:token", state_storage=storage)
            assert await bot.get_state(1) == expected
            await bot.set_state(1, Order.size)
            await bot.add_data(1, size="big", count=1)
            async with bot.retrieve_data(1) as data:
                assert data == {"size": "big", "count": 1}
            await storage.close()


class TestUnitOfAnUpdate:
    async def test_states_of_handlers(self, bot: AsyncTeleBot, storage: SessionStateStorage) -> None:
        bot.setup_middleware(StateMiddleware(bot))

        @bot.message_handler(state=Order.size)
        async def on_size(message: Message, state: StateContext) -> None:
            await state.add_data(size=message.text)
            await state.set(Order.address)

        @bot.message_handler()
        async def start(message: Message, state: StateContext) -> None:
            await state.set(Order.size)

        await feed(bot, message("hi"))
        await feed(bot, message("big"))
        assert await bot.get_state(1) == "Order:address"
        assert await storage.get_data(1, 1, bot_id=42) == {"size": "big"}

    async def test_an_update_reads_once_and_writes_once(self, bot: AsyncTeleBot, storage: SessionStateStorage) -> None:
        counting = storage.sessions.storage
        assert isinstance(counting, CountingStorage)
        await storage.start()
        counting.calls.clear()

        @bot.message_handler(state=[None])
        async def start(message: Message) -> None:
            await bot.set_state(1, Order.size)
            await bot.add_data(1, size="big", count=1)
            async with bot.retrieve_data(1) as data:
                data["count"] += 1

        await feed(bot, message())
        assert counting.calls == {"lock": 1, "put": 1}
        assert await storage.get_data(1, 1, bot_id=42) == {"size": "big", "count": 2}

    async def test_a_failing_handler_leaves_state_and_data(
        self, bot: AsyncTeleBot, errors: list[BaseException]
    ) -> None:
        @bot.message_handler()
        async def bad(message: Message) -> None:
            await bot.set_state(1, Order.size)
            await bot.add_data(1, size="big")
            raise RuntimeError

        await feed(bot, message())
        assert await bot.get_state(1) is None
        assert [type(error) for error in errors] == [RuntimeError]

    async def test_what_the_exception_handler_sets_is_kept(self, storage: SessionStateStorage) -> None:
        class Sorry:
            async def handle(self, exception: Exception) -> bool:
                await bot.set_state(1, "sorry")
                return True

        bot = make_bot()
        bot.exception_handler = Sorry()
        setup_fsm(bot, storage)

        @bot.message_handler()
        async def bad(message: Message) -> None:
            await bot.set_state(1, Order.size)
            raise RuntimeError

        await feed(bot, message())
        assert await bot.get_state(1) == "sorry"

    async def test_a_block_that_fails_in_a_handler_that_goes_on(self, bot: AsyncTeleBot) -> None:
        @bot.message_handler()
        async def on_message(message: Message) -> None:
            await bot.set_state(1, Order.size)
            with pytest.raises(ValueError, match="bad"):
                async with bot.retrieve_data(1) as data:
                    data["x"] = 1
                    await bot.set_state(1, Order.address)
                    raise ValueError("bad")

        await feed(bot, message())
        assert await bot.get_state(1) == "Order:size"
        async with bot.retrieve_data(1) as data:
            assert data == {}

    async def test_a_block_that_fails_keeps_what_others_wrote_meanwhile(
        self, bot: AsyncTeleBot, storage: SessionStateStorage, errors: list[BaseException]
    ) -> None:
        both = asyncio.Barrier(2)

        @bot.message_handler()
        async def on_message(message: Message) -> None:
            if message.from_user.id == 2:
                await both.wait()
                await bot.add_data(1, poked=True)
                await both.wait()
                return
            await bot.set_state(1, Order.size)
            with pytest.raises(ValueError, match="bad"):
                async with bot.retrieve_data(1) as data:
                    data["x"] = 1
                    await both.wait()
                    await both.wait()
                    raise ValueError("bad")

        await bot.set_state(1, Order.address)
        async with asyncio.timeout(60):
            await feed(bot, *[message(user=user) for user in (ANN, BEN)])
        assert errors == []
        assert (await bot.get_state(1), await storage.get_data(1, 1, bot_id=42)) == ("Order:size", {"poked": True})

    async def test_a_batch_of_one_user_counts_all(self, bot: AsyncTeleBot, errors: list[BaseException]) -> None:
        @bot.message_handler()
        async def count(message: Message) -> ContinueHandling:
            await bot.set_state(message.from_user.id, "counting", message.chat.id)
            async with bot.retrieve_data(message.from_user.id, message.chat.id) as data:
                before = data.get("count", 0)
                await asyncio.sleep(0)
                data["count"] = before + 1
            return ContinueHandling()

        await feed(bot, *[message(user=user, chat=group()) for _ in range(30) for user in (ANN, BEN)])
        assert errors == []
        for user in (1, 2):
            async with bot.retrieve_data(user, -100) as data:
                assert data == {"count": 30}

    async def test_two_handlers_that_reach_for_each_other(
        self, bot: AsyncTeleBot, storage: SessionStateStorage, errors: list[BaseException]
    ) -> None:
        both = asyncio.Barrier(2)

        @bot.message_handler()
        async def poke(message: Message) -> None:
            own = message.from_user.id
            await bot.set_state(own, "own")
            await bot.add_data(own, own=True)
            await both.wait()
            async with bot.retrieve_data(3 - own) as data:
                data["poked"] = own
            await both.wait()

        async with asyncio.timeout(60):
            await feed(bot, *[message(user=user) for user in (ANN, BEN)])
        assert errors == []
        for own in (1, 2):
            assert await storage.get_data(own, own, bot_id=42) == {"own": True, "poked": 3 - own}

    async def test_a_block_over_another_users_data_reads_it_once(
        self, bot: AsyncTeleBot, storage: SessionStateStorage
    ) -> None:
        counting = storage.sessions.storage
        assert isinstance(counting, CountingStorage)
        await storage.start()

        @bot.message_handler()
        async def look(message: Message) -> None:
            await bot.get_state(1)
            counting.calls.clear()
            async with bot.retrieve_data(2) as data:
                assert data == {}
            assert counting.calls == {"read": 1}

        await feed(bot, message())
        assert counting.calls["read"] == 1

    async def test_a_block_over_another_users_data_that_others_change(
        self, bot: AsyncTeleBot, storage: SessionStateStorage, errors: list[BaseException]
    ) -> None:
        @bot.message_handler()
        async def poke(message: Message) -> None:
            async with bot.retrieve_data(2) as data:
                data["count"] = data.get("count", 0) + 1
                await bot.set_state(2, "on")
                await bot.add_data(2, count=100)

        await feed(bot, message())
        assert [type(error) for error in errors] == [SessionConflictError]
        assert await storage.get_data(2, 2, bot_id=42) == {"count": 100}

    async def test_a_session_beside_it(
        self, bot: AsyncTeleBot, storage: SessionStateStorage, errors: list[BaseException]
    ) -> None:
        sessions = SessionManager(Pizza, storage=storage.sessions.storage)
        setup_sessions(bot, sessions)

        @bot.message_handler()
        async def on_message(message: Message, session: Pizza) -> None:
            await bot.set_state(1, f"count:{session.count}")
            session.count += 1
            if message.text == "bad":
                session.count = object()  # type: ignore[assignment] # what this is about
            if message.text == "fail":
                raise RuntimeError

        for text in ("good", "bad", "fail"):
            await feed(bot, message(text))
        assert [type(error) for error in errors] == [SessionEncodeError, RuntimeError]
        assert (await bot.get_state(1), await sessions.get(1)) == ("count:0", Pizza(1))

    @pytest.mark.parametrize("place", ["inline message", "old message"])
    async def test_buttons_of_messages_that_telebot_has_not(
        self, bot: AsyncTeleBot, storage: SessionStateStorage, errors: list[BaseException], place: str
    ) -> None:
        """Were its state not locked first, an update could wait for one that waits for it."""
        users = SessionManager(Pizza, storage=storage.sessions.storage, get_session_key=per_user)
        setup_sessions(bot, users)

        @bot.callback_query_handler(lambda query: True)
        async def on_button(query: Any, session: Pizza) -> None:
            session.count += 1
            await bot.set_state(query.from_user.id, Order.size)

        ann = {"id": 1, "is_bot": False, "first_name": "Ann"}
        button = {"id": "1", "from": ann, "chat_instance": "x", "data": "x"}
        old = {"message": {"chat": {"id": 1, "type": "private"}, "message_id": 3, "date": 0}}
        without = old if place == "old message" else {"inline_message_id": "x"}
        in_chat = {"update_id": 2, "callback_query": {**button, "message": message()["message"]}}
        missing = {"update_id": 1, "callback_query": {**button, **without}}
        async with asyncio.timeout(30):
            await feed(bot, missing, in_chat, missing)
        assert errors == []
        assert (await bot.get_state(1), await users.get(1)) == ("Order:size", Pizza(3))

    async def test_updates_without_a_user(self, bot: AsyncTeleBot, errors: list[BaseException]) -> None:
        seen: list[object] = []

        @bot.inline_handler(lambda query: True)
        async def on_query(query: Any) -> None:
            seen.append(await bot.get_state(query.from_user.id))

        @bot.channel_post_handler()
        async def on_post(message: Message) -> None:
            seen.append(message.text)

        post = message("post")["message"]
        assert isinstance(post, dict)
        await feed(bot, inline_query(), {"update_id": 1, "channel_post": {**post, "from": None}})
        assert errors == []
        assert sorted(map(str, seen)) == ["None", "post"]

    async def test_an_update_that_comes_again(self, errors: list[BaseException]) -> None:
        bot, handled = make_bot(errors), 0
        setup_fsm(bot, "memory:", deduplicate=10)

        @bot.message_handler()
        async def on_message(message: Message) -> None:
            nonlocal handled
            handled += 1

        update = message()
        for _ in range(3):
            await feed(bot, update)
        assert (handled, errors) == (1, [])


class TestSettingUp:
    def test_a_bot_that_is_taken(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="state_storage=StatePickleStorage already"):
            setup_fsm(AsyncTeleBot("42:token", state_storage=pickles(tmp_path)), "memory:")

    def test_setting_up_twice(self, bot: AsyncTeleBot) -> None:
        with pytest.raises(ValueError, match="state_storage=SessionStateStorage already"):
            setup_fsm(bot, "memory:")

    def test_a_storage_that_the_bot_was_made_with(self, storage: SessionStateStorage) -> None:
        bot = AsyncTeleBot("42:token", state_storage=storage)
        assert setup_fsm(bot, storage) is storage

    def test_a_sync_bot(self) -> None:
        with pytest.raises(TypeError, match="needs an AsyncTeleBot, not a TeleBot"):
            setup_fsm(TeleBot("42:token", threaded=False), "memory:")  # type: ignore[arg-type] # what this is about

    async def test_a_storage_of_two_bots_is_closed_by_the_last(self, storage: SessionStateStorage) -> None:
        first, second = make_bot(), make_bot(token="43:playground")
        pollings: list[asyncio.Task[None]] = []
        for bot in (first, second):
            setup_fsm(bot, storage)
            pollings.append(asyncio.ensure_future(bot.polling()))
            await asyncio.wait_for(bot.polls.wait(), 60)
        pollings[0].cancel()
        await pollings[0]
        await second.set_state(1, "on")
        pollings[1].cancel()
        await pollings[1]
        with pytest.raises(SessionClosedError):
            await second.set_state(1, "off")

    async def test_polling_connects_and_closes(self, tmp_path: Path) -> None:
        bot = make_bot()
        storage = setup_fsm(bot, f"sqlite:///{tmp_path / 'bot.db'}")
        polling = asyncio.ensure_future(bot.polling())
        async with asyncio.timeout(60):
            while storage.sessions.runtime.loop is None:  # noqa: ASYNC110 - nothing tells that it has begun
                await asyncio.sleep(0.001)
        await bot.set_state(1, "on")
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        with pytest.raises(SessionClosedError):
            await bot.set_state(1, "off")


def pickles(tmp_path: Path) -> StatePickleStorage:
    """A storage that needs no package of its own here."""
    storage = StatePickleStorage.__new__(StatePickleStorage)
    storage.file_path = str(tmp_path)
    return storage


class TestSyncStorage:
    @pytest.fixture
    def sync_storage(self, tmp_path: Path) -> Iterator[SyncSessionStateStorage]:
        storage = SyncSessionStateStorage(f"sqlite:///{tmp_path / 'bot.db'}")
        yield storage
        storage.close()

    @pytest.mark.parametrize("ours", [True, False], ids=["ours", "the framework's"])
    def test_it_does_what_the_frameworks_own_does(self, sync_storage: SyncSessionStateStorage, ours: bool) -> None:
        storage: Any = sync_storage if ours else SyncMemoryStorage()
        bot = TeleBot("42:token", threaded=False, state_storage=storage)
        ids = (1, 1)
        assert (storage.get_state(*ids), storage.get_data(*ids)) == (None, {})
        assert (storage.delete_state(*ids), storage.reset_data(*ids)) == (False, False)
        with pytest.raises(RuntimeError):
            storage.set_data(*ids, "size", "big")
        assert bot.set_state(1, Order.size) is True
        bot.add_data(1, size="big", cart={"salami": 2})
        with bot.retrieve_data(1) as data:
            data["cart"]["salami"] += 1
            del data["size"]
        assert bot.get_state(1) == "Order:size"
        assert storage.get_data(*ids, bot_id=42) == {"cart": {"salami": 3}}
        assert bot.reset_data(1) is True
        assert storage.get_data(*ids, bot_id=42) == {}
        assert bot.delete_state(1) is True
        assert bot.get_state(1) is None

    def test_a_block_that_fails_writes_nothing(self, sync_storage: SyncSessionStateStorage) -> None:
        bot = TeleBot("42:token", threaded=False, state_storage=sync_storage)
        bot.set_state(1, "on")
        with pytest.raises(ValueError, match="bad"), bot.retrieve_data(1) as data:
            data["x"] = 1
            bot.set_state(1, "inside")
            assert bot.get_state(1) == "inside"
            raise ValueError("bad")
        assert (bot.get_state(1), sync_storage.get_data(1, 1, bot_id=42)) == ("on", {})
        with bot.retrieve_data(1) as data:
            data["x"] = 1
            with pytest.raises(ValueError, match="bad"), bot.retrieve_data(1) as inner:
                inner["y"] = 1
                bot.set_state(1, "inside")
                raise ValueError("bad")
        assert (bot.get_state(1), sync_storage.get_data(1, 1, bot_id=42)) == ("on", {"x": 1})

    def test_what_a_block_sets_by_other_calls_is_kept(self, sync_storage: SyncSessionStateStorage) -> None:
        bot = TeleBot("42:token", threaded=False, state_storage=sync_storage)
        bot.set_state(1, "on")
        with bot.retrieve_data(1) as data:
            data["size"] = "big"
            bot.add_data(1, count=1)
            with bot.retrieve_data(1) as inner:
                inner["count"] += 1
            bot.set_state(1, "off")
        assert (bot.get_state(1), sync_storage.get_data(1, 1, bot_id=42)) == ("off", {"size": "big", "count": 2})
        with bot.retrieve_data(1):
            bot.delete_state(1)
        assert (bot.get_state(1), sync_storage.get_data(1, 1, bot_id=42)) == (None, {})

    def test_blocks_of_two_threads_reach_for_each_other(self, sync_storage: SyncSessionStateStorage) -> None:
        bot = TeleBot("42:token", threaded=False, state_storage=sync_storage)
        both = threading.Barrier(2, timeout=60)

        def poke(own: int) -> None:
            with bot.retrieve_data(own) as data:
                data["own"] = True
                both.wait()
                bot.set_state(3 - own, "poked")
                both.wait()

        threads = [threading.Thread(target=poke, args=(own,)) for own in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [bot.get_state(user) for user in (1, 2)] == ["poked", "poked"]
        assert [sync_storage.get_data(user, user, bot_id=42) for user in (1, 2)] == [{"own": True}] * 2

    def test_a_block_that_another_thread_leaves(self, sync_storage: SyncSessionStateStorage) -> None:
        block = sync_storage.get_interactive_data(1, 1)
        block.__enter__()["x"] = 1
        thread = threading.Thread(target=lambda: block.__exit__(None, None, None))
        thread.start()
        thread.join()
        sync_storage.set_data(1, 1, "y", 1)
        assert sync_storage.get_data(1, 1) == {"x": 1, "y": 1}

    def test_blocks_of_many_threads_lose_nothing(self, sync_storage: SyncSessionStateStorage) -> None:
        def count() -> None:
            for _ in range(20):
                with sync_storage.get_interactive_data(1, 1) as data:
                    data["count"] = data.get("count", 0) + 1

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sync_storage.get_data(1, 1) == {"count": 80}

    def test_data_that_is_not_json(self, sync_storage: SyncSessionStateStorage) -> None:
        sync_storage.set_state(1, 1, "on")
        with pytest.raises(SessionEncodeError, match=r'a tuple at `\$\.data\["x"\]`'):
            sync_storage.set_data(1, 1, "x", (1, 2))

    def test_a_closed_storage(self, sync_storage: SyncSessionStateStorage) -> None:
        with sync_storage.get_interactive_data(1, 1):
            sync_storage.set_state(2, 2, "on")
        sync_storage.close()
        assert not sync_storage.sessions.storage.is_open
        with pytest.raises(SessionClosedError):
            sync_storage.set_state(1, 1, "off")
        sync_storage.sessions.start()
        with sync_storage.get_interactive_data(1, 1):
            assert sync_storage.get_state(2, 2) == "on"
