"""aiogram's FSM on our storages: what an update does to state and data is one unit of work."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiogram import Bot, Dispatcher, F, Router
from aiogram.dispatcher.event.bases import CancelHandler, SkipHandler
from aiogram.filters import Command, StateFilter
from aiogram.fsm.context import FSMContext
from aiogram.fsm.scene import Scene, SceneRegistry, ScenesManager, on
from aiogram.fsm.state import State, StatesGroup
from aiogram.fsm.storage.base import StorageKey
from aiogram.fsm.storage.memory import MemoryStorage as AiogramMemory
from aiogram.fsm.storage.memory import SimpleEventIsolation
from aiogram.fsm.strategy import FSMStrategy
from aiogram.types import ErrorEvent, Message
from aiogram_aids import ANN, BEN, BOT, CountingStorage, Pizza, group, message, value_of

from chatsession import (
    SessionClosedError,
    SessionConflictError,
    SessionDecodeError,
    SessionEncodeError,
    SessionManager,
)
from chatsession.integrations.aiogram import SessionFSMStorage, setup_fsm, setup_sessions
from chatsession.integrations.states.records import StateRecord

OTHER_BOT = Bot("43:playground")
ANNS = StorageKey(bot_id=42, chat_id=1, user_id=1)
BENS = StorageKey(bot_id=42, chat_id=2, user_id=2)


class Order(StatesGroup):
    size = State()
    address = State()


@pytest.fixture
def counting() -> CountingStorage:
    return CountingStorage()


@pytest.fixture
async def fsm(counting: CountingStorage) -> AsyncIterator[SessionFSMStorage]:
    storage = SessionFSMStorage(counting)
    await storage.start()
    counting.calls.clear()
    yield storage
    await storage.close()


@pytest.fixture
def bot_with_fsm(fsm: SessionFSMStorage) -> Dispatcher:
    dp = Dispatcher()
    setup_fsm(dp, fsm)
    return dp


async def stored(fsm: SessionFSMStorage, key: StorageKey = ANNS) -> tuple[str | None, dict[str, Any]]:
    return await fsm.get_state(key), await fsm.get_data(key)


class TestUnitOfAnUpdate:
    async def test_state_and_data_are_kept_between_updates(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp = bot_with_fsm

        @dp.message(StateFilter(None))
        async def start(message: Message, state: FSMContext) -> None:
            await state.set_state(Order.size)
            await state.update_data(size="big")

        @dp.message(Order.size)
        async def go_on(message: Message, state: FSMContext) -> None:
            await state.update_data(address=f"for {await value_of(state, 'size')}")
            await state.set_state(Order.address)

        for _ in range(2):
            await dp.feed_raw_update(BOT, message())
        assert await stored(fsm) == ("Order:address", {"size": "big", "address": "for big"})

    async def test_an_update_reads_once_and_writes_once(
        self, bot_with_fsm: Dispatcher, counting: CountingStorage
    ) -> None:
        dp = bot_with_fsm

        @dp.message(StateFilter(Order.address), Order.address)
        async def never(message: Message) -> None: ...

        @dp.message(StateFilter(None))
        async def start(message: Message, state: FSMContext) -> None:
            assert await state.get_state() is None
            await state.set_state(Order.size)
            await state.update_data(size="big")
            await state.update_data(count=1)
            assert await state.get_data() == {"size": "big", "count": 1}
            await state.set_state(Order.address)

        await dp.feed_raw_update(BOT, message())
        assert counting.calls == {"lock": 1, "put": 1}

    async def test_an_update_that_changes_nothing_writes_nothing(
        self, bot_with_fsm: Dispatcher, counting: CountingStorage
    ) -> None:
        dp = bot_with_fsm

        @dp.message(StateFilter(None))
        async def look(message: Message, state: FSMContext) -> None:
            await state.get_data()
            await state.clear()

        await dp.feed_raw_update(BOT, message())
        assert counting.calls == {"lock": 1, "keep": 1}

    async def test_a_failing_handler_leaves_state_and_data(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp = bot_with_fsm
        await fsm.set_state(ANNS, "before")
        await fsm.set_data(ANNS, {"cart": ["salami"]})

        @dp.message()
        async def bad(message: Message, state: FSMContext) -> None:
            await state.set_state(Order.size)
            (await state.get_data())["cart"].append("olives")
            await state.update_data(size="big")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await dp.feed_raw_update(BOT, message())
        assert await stored(fsm) == ("before", {"cart": ["salami"]})

    async def test_a_cancelled_handler_leaves_state_and_data(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp, running = bot_with_fsm, asyncio.Event()

        @dp.message()
        async def slow(message: Message, state: FSMContext) -> None:
            await state.set_state(Order.size)
            running.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(dp.feed_raw_update(BOT, message()))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await stored(fsm) == (None, {})

    @pytest.mark.parametrize("control_flow", [SkipHandler, CancelHandler])
    async def test_control_flow_commits(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage, control_flow: type[Exception]
    ) -> None:
        @bot_with_fsm.message()
        async def skips(message: Message, state: FSMContext) -> None:
            await state.set_state(Order.size)
            raise control_flow

        with contextlib.suppress(CancelHandler):
            await bot_with_fsm.feed_raw_update(BOT, message())
        assert await fsm.get_state(ANNS) == "Order:size"

    async def test_get_data_gives_a_copy(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        @bot_with_fsm.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            given = {"cart": ["salami"]}
            await state.set_data(given)
            given["cart"].append("given")
            (await state.get_data())["cart"].append("got")
            if hasattr(state, "get_value"):  # not before aiogram 3.14
                (await state.get_value("cart")).append("got")
            (await state.update_data(count=1))["cart"].append("got")

        await bot_with_fsm.feed_raw_update(BOT, message())
        assert await fsm.get_data(ANNS) == {"cart": ["salami"], "count": 1}

    async def test_updates_of_one_user_run_one_after_another(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        @bot_with_fsm.message()
        async def count(message: Message, state: FSMContext) -> None:
            data = await state.get_data()
            await asyncio.sleep(0)
            await state.set_data({"count": data.get("count", 0) + 1})

        await asyncio.gather(*[bot_with_fsm.feed_raw_update(BOT, message()) for _ in range(50)])
        assert await fsm.get_data(ANNS) == {"count": 50}

    async def test_tasks_that_a_handler_awaits_belong_to_its_unit(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        @bot_with_fsm.message()
        async def bad(message: Message, state: FSMContext) -> None:
            await asyncio.gather(*[state.update_data({str(number): number}) for number in range(3)])
            assert await state.get_data() == {"0": 0, "1": 1, "2": 2}
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await bot_with_fsm.feed_raw_update(BOT, message())
        assert await fsm.get_data(ANNS) == {}

    async def test_clearing_leaves_nothing_behind(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        @bot_with_fsm.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            await state.clear() if await state.get_state() else await state.set_state(Order.size)

        await bot_with_fsm.feed_raw_update(BOT, message())
        assert await fsm.sessions.count() == 1
        await bot_with_fsm.feed_raw_update(BOT, message())
        assert await fsm.sessions.count() == 0


class TestOutsideOfTheUnit:
    async def test_an_error_handler_sees_what_was_stored(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp, seen = bot_with_fsm, []

        @dp.message()
        async def bad(message: Message, state: FSMContext) -> None:
            await state.set_state(Order.size)
            raise RuntimeError

        @dp.errors()
        async def on_error(event: ErrorEvent, state: FSMContext) -> None:
            seen.append(await state.get_state())
            await state.set_state(Order.address)
            await state.update_data(failed=True)

        await dp.feed_raw_update(BOT, message())
        assert seen == [None]
        assert await stored(fsm) == ("Order:address", {"failed": True})

    async def test_a_background_task_writes_by_itself(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        dp, done, tasks = bot_with_fsm, asyncio.Event(), []

        async def later(state: FSMContext) -> None:
            await done.wait()
            await asyncio.gather(*[state.update_data({str(number): number}) for number in range(20)])

        @dp.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            tasks.append(asyncio.ensure_future(later(state)))
            await state.update_data(first=True)

        await dp.feed_raw_update(BOT, message())
        assert await fsm.get_data(ANNS) == {"first": True}
        done.set()
        await asyncio.gather(*tasks)
        assert await fsm.get_data(ANNS) == {"first": True} | {str(number): number for number in range(20)}

    async def test_a_background_task_waits_for_the_running_update(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp, running, go_on = bot_with_fsm, asyncio.Event(), asyncio.Event()

        @dp.message()
        async def slow(message: Message, state: FSMContext) -> None:
            count = await value_of(state, "count", 0)
            running.set()
            await go_on.wait()
            await state.update_data(count=count + 1)

        update = asyncio.ensure_future(dp.feed_raw_update(BOT, message()))
        await running.wait()
        job = asyncio.ensure_future(fsm.update_data(ANNS, {"count": 10}))
        await asyncio.sleep(0)
        assert await fsm.get_data(ANNS) == {}
        go_on.set()
        await asyncio.gather(update, job)
        assert await fsm.get_data(ANNS) == {"count": 10}

    async def test_get_data_gives_a_copy(self, fsm: SessionFSMStorage) -> None:
        for key in (ANNS, BENS):
            (await fsm.get_data(key))["mine"] = True
            assert await fsm.get_data(key) == {}
            assert await fsm.get_value(key, "mine") is None


class TestOtherUsers:
    def others(self, state: FSMContext) -> FSMContext:
        other = 3 - state.key.user_id
        return FSMContext(state.storage, replace(state.key, user_id=other, chat_id=other))

    @pytest.mark.parametrize("rounds", [1, 20])
    async def test_two_handlers_that_write_each_others_data(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage, rounds: int
    ) -> None:
        dp, both = bot_with_fsm, asyncio.Barrier(2)

        @dp.message()
        async def poke(message: Message, state: FSMContext) -> None:
            await state.update_data(own=await value_of(state, "own", 0) + 1)
            await both.wait()
            await self.others(state).update_data(poked=message.text)
            await self.others(state).set_state("poked")
            await both.wait()

        async with asyncio.timeout(60):
            for number in range(rounds):
                await asyncio.gather(*[dp.feed_raw_update(BOT, message(f"{number}", user=user)) for user in (ANN, BEN)])
        for key in (ANNS, BENS):
            assert await stored(fsm, key) == ("poked", {"own": rounds, "poked": f"{rounds - 1}"})

    async def test_pairs_whose_handlers_write_to_each_other_lose_nothing(self, tmp_path: Any) -> None:
        """A chat roulette: an update that begins while its user's record is being written reads it anew."""
        dp = Dispatcher()
        fsm = setup_fsm(dp, f"sqlite:///{tmp_path}/bot.db")

        @dp.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            partner = 3 - message.chat.id
            await state.update_data(sent=await value_of(state, "sent", 0) + 1)
            theirs = dp.fsm.get_context(BOT, chat_id=partner, user_id=partner)
            await theirs.update_data(got=await value_of(theirs, "got", 0) + 1)

        for _ in range(3):
            await asyncio.gather(
                *(dp.feed_raw_update(BOT, message(user=user)) for _ in range(10) for user in (ANN, BEN)),
            )
        found = [await fsm.get_value(key, "sent") for key in (ANNS, BENS)]
        await fsm.close()
        assert found == [30, 30]

    async def test_what_was_written_to_another_user_stays_though_the_handler_fails(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        @bot_with_fsm.message()
        async def bad(message: Message, state: FSMContext) -> None:
            await self.others(state).set_state("invited")
            await state.set_state("inviting")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await bot_with_fsm.feed_raw_update(BOT, message())
        assert (await fsm.get_state(ANNS), await fsm.get_state(BENS)) == (None, "invited")

    async def test_a_handler_sees_what_another_wrote_meanwhile(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp, running, go_on = bot_with_fsm, asyncio.Event(), asyncio.Event()

        @dp.message(F.text == "slow")
        async def slow(message: Message, state: FSMContext) -> None:
            await state.update_data(before=1)
            running.set()
            await go_on.wait()
            assert await state.get_data() == {"before": 1, "poked": True}
            await state.update_data(poked=False)

        @dp.message()
        async def poke(message: Message, state: FSMContext) -> None:
            await self.others(state).update_data(poked=True)

        update = asyncio.ensure_future(dp.feed_raw_update(BOT, message("slow")))
        await running.wait()
        await dp.feed_raw_update(BOT, message("poke", user=BEN))
        assert (await fsm.sessions.get("42:1:1")).data == {"poked": True}
        go_on.set()
        await update
        assert await fsm.get_data(ANNS) == {"before": 1, "poked": False}

    async def test_a_handler_that_would_undo_what_another_wrote_meanwhile(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        dp, running, go_on = bot_with_fsm, asyncio.Event(), asyncio.Event()
        await fsm.set_data(ANNS, {"count": 5})

        @dp.message(F.text == "slow")
        async def slow(message: Message, state: FSMContext) -> None:
            count = (await state.get_data())["count"]
            running.set()
            await go_on.wait()
            await state.update_data(count=count + 1)

        @dp.message()
        async def poke(message: Message, state: FSMContext) -> None:
            await self.others(state).update_data(count=100)

        update = asyncio.ensure_future(dp.feed_raw_update(BOT, message("slow")))
        await running.wait()
        await dp.feed_raw_update(BOT, message("poke", user=BEN))
        go_on.set()
        with pytest.raises(SessionConflictError, match="42:1:1"):
            await update
        assert await fsm.get_data(ANNS) == {"count": 100}


class TestKeys:
    async def test_several_bots_have_states_of_their_own(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage
    ) -> None:
        @bot_with_fsm.message()
        async def count(message: Message, state: FSMContext) -> None:
            await state.update_data(count=await value_of(state, "count", 0) + 1)

        for bot in (BOT, OTHER_BOT, OTHER_BOT):
            await bot_with_fsm.feed_raw_update(bot, message())
        assert await fsm.get_data(ANNS) == {"count": 1}
        assert await fsm.get_data(replace(ANNS, bot_id=43)) == {"count": 2}

    @pytest.mark.parametrize("strategy", FSMStrategy)
    async def test_strategies(self, fsm: SessionFSMStorage, strategy: FSMStrategy) -> None:
        dp, own = Dispatcher(fsm_strategy=strategy), Dispatcher(fsm_strategy=strategy)
        setup_fsm(dp, fsm)

        async def count(message: Message, state: FSMContext) -> None:
            await state.update_data(count=await value_of(state, "count", 0) + 1)

        async def tell(message: Message, state: FSMContext) -> None:
            seen[state.key] = await state.get_data()

        topic = {"message_thread_id": 7, "is_topic_message": True}
        updates = [
            message(text, user=user, chat=chat, **thread)
            for text in ("count", "tell")
            for user in (ANN, BEN)
            for chat, thread in ((None, {}), (group(), {}), (group(), topic))
        ]
        results: list[dict[StorageKey, Any]] = []
        for dispatcher in (dp, own):
            seen: dict[StorageKey, Any] = {}
            dispatcher.message.register(count, F.text == "count")
            dispatcher.message.register(tell)
            for update in updates:
                await dispatcher.feed_raw_update(BOT, update)
            results.append(seen)
        assert results[0] == results[1]

    async def test_all_parts_of_a_key_tell_conversations_apart(self, fsm: SessionFSMStorage) -> None:
        keys = [
            ANNS,
            replace(ANNS, bot_id=43),
            replace(ANNS, chat_id=-1),
            replace(ANNS, user_id=2),
            replace(ANNS, thread_id=0),
            replace(ANNS, thread_id=7),
            replace(ANNS, business_connection_id="7"),
            replace(ANNS, business_connection_id="7:8"),
            replace(ANNS, thread_id=7, business_connection_id="8"),
            replace(ANNS, thread_id=7, business_connection_id=""),
            replace(ANNS, destiny="7"),
            replace(ANNS, destiny=":7"),
            replace(ANNS, business_connection_id="7#x"),
            replace(ANNS, business_connection_id="7", destiny="x"),
        ]
        for number, key in enumerate(keys):
            await fsm.set_state(key, str(number))
        assert [await fsm.get_state(key) for key in keys] == [str(number) for number in range(len(keys))]

    async def test_another_destiny_belongs_to_the_unit(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        @bot_with_fsm.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            aside = FSMContext(state.storage, replace(state.key, destiny="aside"))
            await aside.update_data(count=await value_of(aside, "count", 0) + 1)
            if message.text == "fail":
                raise RuntimeError

        await bot_with_fsm.feed_raw_update(BOT, message())
        with pytest.raises(RuntimeError):
            await bot_with_fsm.feed_raw_update(BOT, message("fail"))
        assert await fsm.get_data(replace(ANNS, destiny="aside")) == {"count": 1}


class TestScenes:
    async def test_a_scenes_history_is_one_unit_with_its_state(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage, counting: CountingStorage
    ) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, state: FSMContext) -> None:
                await state.update_data(entered=True)

            @on.message(F.text == "pay")
            async def pay(self, message: Message) -> None:
                await self.wizard.goto(Pay)

            @on.message(F.text == "fail")
            async def fail(self, message: Message) -> None:
                await self.wizard.goto(Pay)
                raise RuntimeError

        class Pay(Scene, state="pay"):
            @on.message(F.text == "back")
            async def back(self, message: Message) -> None:
                await self.wizard.back()

        SceneRegistry(bot_with_fsm).add(Menu, Pay)
        bot_with_fsm.message.register(Menu.as_handler(), Command("menu"))

        async def state_after(text: str) -> str | None:
            await bot_with_fsm.feed_raw_update(BOT, message(text))
            return await fsm.get_state(ANNS)

        assert await state_after("/menu") == "menu"
        with pytest.raises(RuntimeError):
            await state_after("fail")
        assert await stored(fsm) == ("menu", {"entered": True})
        assert await fsm.get_data(replace(ANNS, destiny="scenes_history")) == {}
        assert await state_after("pay") == "pay"
        assert await state_after("back") == "menu"

    async def test_an_error_handler_enters_a_scene(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        class Sorry(Scene, state="sorry"): ...

        SceneRegistry(bot_with_fsm).add(Sorry)

        @bot_with_fsm.message()
        async def bad(message: Message) -> None:
            raise RuntimeError

        @bot_with_fsm.errors()
        async def on_error(event: ErrorEvent, scenes: ScenesManager) -> None:
            await scenes.enter(Sorry)

        await bot_with_fsm.feed_raw_update(BOT, message())
        assert await fsm.get_state(ANNS) == "sorry"


class TestBesideSessions:
    @pytest.fixture
    def both(self, bot_with_fsm: Dispatcher, counting: CountingStorage) -> SessionManager[Pizza]:
        sessions = SessionManager(Pizza, storage=counting)
        setup_sessions(bot_with_fsm, sessions)
        return sessions

    async def test_state_and_session_are_stored_together(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage, both: SessionManager[Pizza]
    ) -> None:
        @bot_with_fsm.message()
        async def on_message(message: Message, state: FSMContext, session: Pizza) -> None:
            session.count += 1
            await state.update_data(count=session.count)

        for _ in range(3):
            await bot_with_fsm.feed_raw_update(BOT, message())
        assert (await fsm.get_data(ANNS), await both.get(1)) == ({"count": 3}, Pizza(3))

    async def test_a_session_that_cannot_be_stored_keeps_the_state_back(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage, both: SessionManager[Pizza]
    ) -> None:
        @bot_with_fsm.message()
        async def on_message(message: Message, state: FSMContext, session: Pizza) -> None:
            session.count = object()  # type: ignore[assignment] # what this is about
            await state.set_state(Order.size)

        with pytest.raises(SessionEncodeError):
            await bot_with_fsm.feed_raw_update(BOT, message())
        assert (await fsm.get_state(ANNS), await both.get(1)) == (None, None)

    async def test_a_state_that_cannot_be_stored_keeps_the_session_back(
        self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage, both: SessionManager[Pizza]
    ) -> None:
        @bot_with_fsm.message()
        async def on_message(message: Message, state: FSMContext, session: Pizza) -> None:
            session.count += 1
            await state.update_data(count="\ud800")

        with pytest.raises(SessionEncodeError, match=r"42:1:1.*count"):
            await bot_with_fsm.feed_raw_update(BOT, message())
        assert (await fsm.get_state(ANNS), await both.get(1)) == (None, None)

    async def test_a_middleware_that_fails_afterwards_keeps_both_back(
        self, counting: CountingStorage, fsm: SessionFSMStorage
    ) -> None:
        dp, sessions = Dispatcher(), SessionManager(Pizza, storage=counting)

        @dp.update.outer_middleware()
        async def fails(handler: Any, event: Any, data: dict[str, Any]) -> None:
            await handler(event, data)
            raise RuntimeError

        setup_fsm(dp, fsm)
        setup_sessions(dp, sessions)

        @dp.message()
        async def on_message(message: Message, state: FSMContext, session: Pizza) -> None:
            session.count += 1
            await state.set_state(Order.size)

        with pytest.raises(RuntimeError):
            await dp.feed_raw_update(BOT, message())
        assert (await fsm.get_state(ANNS), await sessions.get(1)) == (None, None)

    async def test_an_update_without_a_conversation_stores_its_session(
        self, bot_with_fsm: Dispatcher, counting: CountingStorage
    ) -> None:
        sessions = SessionManager(Pizza, storage=counting, get_session_key=lambda ctx: "polls")
        setup_sessions(bot_with_fsm, sessions)

        @bot_with_fsm.poll()
        async def on_poll(poll: Any, session: Pizza) -> None:
            session.count += 1

        poll = {
            "id": "7",
            "question": "?",
            "options": [],
            "total_voter_count": 0,
            "is_closed": False,
            "is_anonymous": True,
            "type": "regular",
            "allows_multiple_answers": False,
            "allows_revoting": False,
            "members_only": False,
        }
        await bot_with_fsm.feed_raw_update(BOT, {"update_id": 1, "poll": poll})
        assert await sessions.get("polls") == Pizza(1)


class TestRedelivery:
    @pytest.fixture
    def dp(self, counting: CountingStorage) -> Dispatcher:
        dp = Dispatcher()
        setup_fsm(dp, counting, deduplicate=10)
        return dp

    async def test_an_update_that_comes_again_is_not_handled_again(self, dp: Dispatcher) -> None:
        handled = 0

        @dp.message(F.text == "🍕")
        async def on_message(message: Message, state: FSMContext) -> None:
            nonlocal handled
            handled += 1
            await state.set_state(Order.size)
            await state.clear()

        first, second = message(), message()
        for update in (first, second, first, second):
            await dp.feed_raw_update(BOT, update)
        assert handled == 2

    async def test_an_update_that_failed_is_handled_again(self, dp: Dispatcher) -> None:
        handled = 0

        @dp.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            nonlocal handled
            handled += 1
            await state.update_data(count=handled)
            if handled == 1:
                raise RuntimeError

        update = message()
        with pytest.raises(RuntimeError):
            await dp.feed_raw_update(BOT, update)
        for _ in range(2):
            await dp.feed_raw_update(BOT, update)
        assert handled == 2

    async def test_updates_that_nobody_handles_are_not_remembered(
        self, dp: Dispatcher, counting: CountingStorage
    ) -> None:
        await dp.feed_raw_update(BOT, message())
        assert "put" not in counting.calls or (await counting.scan_keys("aiogram:", None, 10))[0] == []

    async def test_a_session_beside_it_that_remembers_nothing(self, dp: Dispatcher) -> None:
        sessions = SessionManager(Pizza, storage="memory:")
        setup_sessions(dp, sessions)

        @dp.message()
        async def on_message(message: Message, session: Pizza) -> None:
            session.count += 1

        update = message()
        for _ in range(3):
            await dp.feed_raw_update(BOT, update)
        assert await sessions.get(1) == Pizza(1)


class TestLife:
    async def test_states_survive_a_restart(self, tmp_path: Any) -> None:
        for expected in (None, "Order:size"):
            dp = Dispatcher()
            storage = setup_fsm(dp, f"sqlite:///{tmp_path / 'bot.db'}")

            @dp.message()
            async def on_message(message: Message, state: FSMContext, raw_state: str | None) -> None:
                assert raw_state == expected  # noqa: B023 - called below
                await state.set_state(Order.size)

            await dp.emit_startup()
            await dp.feed_raw_update(BOT, message())
            await dp.emit_shutdown()
            assert storage.sessions.runtime.active == 0

    async def test_a_dispatcher_that_starts_again(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        dp = bot_with_fsm
        for _ in range(2):
            await dp.emit_startup()
            await fsm.set_state(ANNS, "on")
            await dp.emit_shutdown()
            with pytest.raises(SessionClosedError):
                await fsm.set_state(ANNS, "off")
        await fsm.start()
        assert await fsm.get_state(ANNS) == "on"

    async def test_a_storage_of_two_dispatchers_is_closed_with_the_last(self, tmp_path: Any) -> None:
        fsm = SessionFSMStorage(f"sqlite:///{tmp_path}/bot.db")
        first, second = Dispatcher(), Dispatcher()
        for dp in (first, second):
            setup_fsm(dp, fsm)
            await dp.emit_startup(dispatcher=dp)
        await first.emit_shutdown(dispatcher=first)
        await fsm.set_state(ANNS, Order.size)
        await second.emit_shutdown(dispatcher=second)
        with pytest.raises(SessionClosedError):
            await fsm.set_state(ANNS, Order.size)

    async def test_closing_waits_for_running_handlers(self, bot_with_fsm: Dispatcher, fsm: SessionFSMStorage) -> None:
        dp, running, go_on = bot_with_fsm, asyncio.Event(), asyncio.Event()

        @dp.message()
        async def slow(message: Message, state: FSMContext) -> None:
            running.set()
            await go_on.wait()
            await state.set_state(Order.size)

        update = asyncio.ensure_future(dp.feed_raw_update(BOT, message()))
        await running.wait()
        closing = asyncio.ensure_future(dp.emit_shutdown())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(update, closing)
        await fsm.start()
        assert await fsm.get_state(ANNS) == "Order:size"

    def test_an_update_left_in_a_loop_that_ended_holds_nobody_up(self, tmp_path: Any) -> None:
        dp = Dispatcher()
        fsm = setup_fsm(dp, f"sqlite:///{tmp_path}/bot.db")
        running = asyncio.Event()

        @dp.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            if message.text == "stay":
                running.set()
                await asyncio.Event().wait()
            await FSMContext(state.storage, ANNS).update_data(by=message.text)

        async def stay() -> asyncio.Task[Any]:
            update = asyncio.ensure_future(dp.feed_raw_update(BOT, message("stay")))
            await running.wait()
            return update

        async def write_from_another_chat() -> None:
            async with asyncio.timeout(60):
                await dp.feed_raw_update(BOT, message("Ben", user=BEN))
                assert await fsm.sessions.get(fsm.session_key(ANNS)) == StateRecord(None, {"by": "Ben"})
            await fsm.close()

        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(stay())  # and runs no further
        try:
            asyncio.run(write_from_another_chat())
        finally:
            left.cancel()
            loop.run_until_complete(asyncio.wait([left]))
            loop.close()

    async def test_the_two_parts_by_hand(self, counting: CountingStorage) -> None:
        storage = SessionFSMStorage(counting)
        dp = Dispatcher(storage=storage, events_isolation=storage.create_isolation())

        @dp.message()
        async def on_message(message: Message, state: FSMContext) -> None:
            await state.set_state(Order.size)
            if message.text == "fail":
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await dp.feed_raw_update(BOT, message("fail"))
        assert await storage.get_state(ANNS) is None
        await dp.feed_raw_update(BOT, message())
        assert await storage.get_state(ANNS) == "Order:size"
        await dp.emit_shutdown()


class TestBadInput:
    @pytest.mark.parametrize(
        ("made_with", "named"),
        [
            ({"storage": SessionFSMStorage("memory:")}, "storage=SessionFSMStorage"),
            (
                {"events_isolation": SimpleEventIsolation()},
                "events_isolation=SimpleEventIsolation already; make it without",
            ),
            ({"disable_fsm": True}, "disable_fsm=True"),
        ],
    )
    def test_a_dispatcher_that_is_taken(self, made_with: dict[str, Any], named: str) -> None:
        with pytest.raises(ValueError, match=named):
            setup_fsm(Dispatcher(**made_with), "memory:")

    def test_setting_up_twice(self, bot_with_fsm: Dispatcher) -> None:
        with pytest.raises(ValueError, match="storage=SessionFSMStorage already"):
            setup_fsm(bot_with_fsm, "memory:")

    def test_a_router(self) -> None:
        with pytest.raises(TypeError, match="needs the Dispatcher, not a Router"):
            setup_fsm(Router(), "memory:")  # type: ignore[arg-type] # what this is about

    def test_an_option_that_there_is_not(self) -> None:
        with pytest.raises(TypeError, match="no option 'concurrency'"):
            SessionFSMStorage("memory:", concurrency="optimistic")  # type: ignore[call-arg] # what this is about

    def test_options_beside_a_storage_that_has_its_own(self, fsm: SessionFSMStorage) -> None:
        with pytest.raises(TypeError, match="options go to the SessionFSMStorage"):
            setup_fsm(Dispatcher(), fsm, ttl=5)

    def test_an_explicit_memory_storage_of_aiogram_is_replaced(self) -> None:
        dp = Dispatcher(storage=AiogramMemory())
        storage = setup_fsm(dp, "memory:")
        assert dp.storage is storage

    @pytest.mark.parametrize(
        ("data", "path"),
        [
            ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, 'a datetime at `$.data["when"]`'),
            ({"cart": [{"size": (1, 2)}]}, 'a tuple at `$.data["cart"][0]["size"]`'),
            ({"by_id": {7: "x"}}, 'a int as a key of the dict at `$.data["by_id"]`'),
            ({"rate": float("nan")}, 'number at `$.data["rate"]`'),
            ({"message": object()}, 'a object at `$.data["message"]`'),
        ],
    )
    async def test_a_value_that_is_not_json(self, fsm: SessionFSMStorage, data: dict[str, Any], path: str) -> None:
        await fsm.set_data(ANNS, {"kept": 1})
        for write in (fsm.set_data, fsm.update_data):
            with pytest.raises(SessionEncodeError, match=re.escape(path)) as caught:
                await write(ANNS, data)
            assert "42:1:1" in str(caught.value)
        assert await fsm.get_data(ANNS) == {"kept": 1}

    async def test_data_that_contains_itself(self, fsm: SessionFSMStorage) -> None:
        data: dict[str, Any] = {}
        data["self"] = data
        with pytest.raises(SessionEncodeError, match="contains itself"):
            await fsm.set_data(ANNS, data)

    async def test_a_state_that_is_no_state(self, fsm: SessionFSMStorage) -> None:
        with pytest.raises(TypeError, match="a State, a string or None, not a int"):
            await fsm.set_state(ANNS, 5)  # type: ignore[arg-type] # what this is about

    @pytest.mark.parametrize("stock", [b'{"count": 1}', b"Order:size", b'"Order:size"', b'{"state": "x"}'])
    async def test_data_of_another_library_under_the_same_key(self, counting: CountingStorage, stock: bytes) -> None:
        from chatsession.storages import Action, Change

        fsm = SessionFSMStorage(counting, prefix="")
        await counting.commit_many([Change("42:1:1", Action.PUT, stock)])
        dp = Dispatcher()
        setup_fsm(dp, fsm)
        for call in (
            lambda: fsm.get_state(ANNS),
            lambda: fsm.set_state(ANNS, "x"),
            lambda: dp.feed_raw_update(BOT, message()),
        ):
            with pytest.raises(SessionDecodeError, match="42:1:1"):
                await call()
        assert (await counting.read_many(["42:1:1"]))[0].value == stock  # type: ignore[union-attr] # it is there
