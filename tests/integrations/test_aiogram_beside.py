"""Sessions beside what else a dispatcher has: FSM, scenes, isolation, other bots, other managers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiogram import Bot, Dispatcher, F, Router
from aiogram.dispatcher.event.bases import SkipHandler
from aiogram.filters import Command, StateFilter
from aiogram.fsm.context import FSMContext
from aiogram.fsm.scene import After, Scene, SceneRegistry, ScenesManager, on
from aiogram.fsm.state import State, StatesGroup
from aiogram.fsm.storage.memory import SimpleEventIsolation
from aiogram.fsm.strategy import FSMStrategy
from aiogram.types import ErrorEvent, Message
from aiogram_aids import ANN, BEN, BOT, CountingStorage, Pizza, group, message

from chatsession import MemoryStorage, SessionError, SessionManager, per_user
from chatsession.integrations.aiogram import LazySessionContext, SessionContext, setup_sessions

OTHER_BOT = Bot("43:playground")


class Order(StatesGroup):
    size = State()


async def test_fsm_state_beside_a_session(dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
    @dp.message(StateFilter(None))
    async def start(message: Message, state: FSMContext, session: Pizza) -> None:
        await state.set_state(Order.size)
        await state.update_data(size="big")
        session.count += 1

    @dp.message(Order.size)
    async def go_on(message: Message, state: FSMContext, session: Pizza) -> None:
        session.toppings.append((await state.get_data())["size"])
        await state.clear()

    for _ in range(3):
        await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(2, ["big"])


async def test_sessions_without_fsm(sessions: SessionManager[Pizza]) -> None:
    dp = Dispatcher(disable_fsm=True)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    await dp.feed_raw_update(BOT, message())
    assert await sessions.get(1) == Pizza(1)


@pytest.mark.parametrize("strategy", [FSMStrategy.CHAT, FSMStrategy.USER_IN_CHAT])
async def test_events_isolation_beside_sessions(sessions: SessionManager[Pizza], strategy: FSMStrategy) -> None:
    dp = Dispatcher(events_isolation=SimpleEventIsolation(), fsm_strategy=strategy)
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_pizza(message: Message, state: FSMContext, session: Pizza) -> None:
        count = session.count
        await state.update_data(count=count)
        session.count = count + 1

    updates = [message(user=user, chat=group()) for _ in range(20) for user in (ANN, BEN)]
    async with asyncio.timeout(120):
        await asyncio.gather(*[dp.feed_raw_update(BOT, update) for update in updates])
    assert await sessions.get(-100) == Pizza(40)


class TestScenes:
    async def test_scene_handlers_name_session_or_ctx(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class Menu(Scene, state="menu"):
            @on.message(F.text == "take")
            async def take(self, message: Message, session: Pizza) -> None:
                session.count += 1

            @on.message(F.text == "reset")
            async def reset(self, message: Message, ctx: SessionContext[Pizza]) -> None:
                ctx.session = Pizza(100)

            @on.message(F.text == "leave")
            async def leave(self, ctx: Message, session: Pizza) -> None:
                session.toppings.append(ctx.text or "")

        SceneRegistry(dp).add(Menu)
        dp.message.register(Menu.as_handler(), Command("menu"))

        for text in ("/menu", "take", "take"):
            await dp.feed_raw_update(BOT, message(text))
        assert await sessions.get(1) == Pizza(2)
        await dp.feed_raw_update(BOT, message("reset"))
        assert await sessions.get(1) == Pizza(100)
        await dp.feed_raw_update(BOT, message("leave"))
        assert await sessions.get(1) == Pizza(100, ["leave"])

    async def test_an_entry_handler_enters_a_scene_that_names_session(
        self, dp: Dispatcher, sessions: SessionManager[Pizza]
    ) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
                assert ctx.session is session
                session.count += 1

        SceneRegistry(dp).add(Menu)
        dp.message.register(Menu.as_handler(), Command("menu"))

        await dp.feed_raw_update(BOT, message("/menu"))
        assert await sessions.get(1) == Pizza(1)

    async def test_an_action_that_names_ctx_alone(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, ctx: SessionContext[Pizza]) -> None:
                ctx.session.count += 1

        SceneRegistry(dp).add(Menu)
        dp.message.register(Menu.as_handler(), Command("menu"))

        await dp.feed_raw_update(BOT, message("/menu"))
        assert await sessions.get(1) == Pizza(1)

    async def test_goto_takes_the_session_along(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class Menu(Scene, state="menu"):
            @on.message()
            async def choose(self, message: Message) -> None:
                await self.wizard.goto(Kitchen)

            @on.message.leave()
            async def on_leave(self, message: Message, session: Pizza) -> None:
                session.toppings.append("left")

        class Kitchen(Scene, state="kitchen"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza) -> None:
                session.toppings.append("entered")

        SceneRegistry(dp).add(Menu, Kitchen)
        dp.message.register(Menu.as_handler(), Command("menu"))

        await dp.feed_raw_update(BOT, message("/menu"))
        await dp.feed_raw_update(BOT, message("choose"))
        assert await sessions.get(1) == Pizza(0, ["left", "entered"])

    async def test_after_takes_the_session_along(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class Menu(Scene, state="menu"):
            @on.message(after=After.exit())
            async def choose(self, message: Message, session: Pizza) -> None:
                session.toppings.append("chosen")

            @on.message.exit()
            async def on_exit(self, message: Message, session: Pizza) -> None:
                session.toppings.append("left")

        SceneRegistry(dp).add(Menu)
        dp.message.register(Menu.as_handler(), Command("menu"))

        await dp.feed_raw_update(BOT, message("/menu"))
        await dp.feed_raw_update(BOT, message("choose"))
        assert await sessions.get(1) == Pizza(0, ["chosen", "left"])

    async def test_an_action_gets_what_was_assigned_before_it(
        self, dp: Dispatcher, sessions: SessionManager[Pizza]
    ) -> None:
        class Menu(Scene, state="menu"):
            @on.message()
            async def choose(self, message: Message, session: Pizza, ctx: SessionContext[Pizza]) -> None:
                ctx.session = Pizza(10)
                await self.wizard.goto(Kitchen)

        class Kitchen(Scene, state="kitchen"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza) -> None:
                session.count += 1

        SceneRegistry(dp).add(Menu, Kitchen)
        dp.message.register(Menu.as_handler(), Command("menu"))

        await dp.feed_raw_update(BOT, message("/menu"))
        await dp.feed_raw_update(BOT, message("choose"))
        assert await sessions.get(1) == Pizza(11)

    async def test_an_error_handler_enters_a_scene(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class Sorry(Scene, state="sorry"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza) -> None:
                session.toppings.append("sorry")

        SceneRegistry(dp).add(Sorry)

        @dp.message()
        async def bad(message: Message, session: Pizza) -> None:
            session.toppings.append("burnt")
            raise RuntimeError

        @dp.errors()
        async def on_error(event: ErrorEvent, scenes: ScenesManager) -> None:
            await scenes.enter(Sorry)

        await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) == Pizza(0, ["sorry"])

    async def test_actions_that_name_neither_cost_nothing(self, dp: Dispatcher, storage: CountingStorage) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message) -> None: ...

            @on.message()
            async def choose(self, message: Message) -> None:
                await self.wizard.exit()

            @on.message.leave()
            async def on_leave(self, message: Message, session: Pizza) -> None: ...

        SceneRegistry(dp).add(Menu)
        dp.message.register(Menu.as_handler(), Command("menu"))

        await dp.feed_raw_update(BOT, message("/menu"))
        await dp.feed_raw_update(BOT, message("choose"))
        assert storage.calls == {}

    async def test_scenes_of_a_router(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza) -> None:
                session.count += 1

        router = Router()
        SceneRegistry(router).add(Menu)
        router.message.register(Menu.as_handler(), Command("menu"))
        dp.include_router(router)

        await dp.feed_raw_update(BOT, message("/menu"))
        assert await sessions.get(1) == Pizza(1)

    async def test_a_scene_that_is_added_later(self, dp: Dispatcher, sessions: SessionManager[Pizza]) -> None:
        class First(Scene, state="first"):
            @on.message(F.text == "stay")
            async def stay(self, message: Message) -> None: ...

        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza) -> None:
                session.count += 1

        registry = SceneRegistry(dp)
        registry.add(First)
        dp.message.register(First.as_handler(), Command("first"))
        dp.message.register(Menu.as_handler(), Command("menu"))
        await dp.feed_raw_update(BOT, message("/first"))
        registry.add(Menu)
        await dp.feed_raw_update(BOT, message("/menu"))
        assert await sessions.get(1) == Pizza(1)

    async def test_a_scene_in_two_dispatchers(self) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, session: Pizza) -> None:
                session.count += 1

        both = [SessionManager(Pizza, storage="memory:") for _ in range(2)]
        for manager in both:
            dp = Dispatcher()
            setup_sessions(dp, manager)
            SceneRegistry(dp).add(Menu)
            dp.message.register(Menu.as_handler())
            await dp.feed_raw_update(BOT, message())
        assert [await manager.get(1) for manager in both] == [Pizza(1), Pizza(1)]

    async def test_a_scene_that_a_dispatcher_without_sessions_shares(self, dp: Dispatcher) -> None:
        entered: list[Any] = []

        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(self, message: Message, ctx: Any = None) -> None:
                entered.append(ctx)

        for dispatcher in (dp, Dispatcher()):
            SceneRegistry(dispatcher).add(Menu)
            dispatcher.message.register(Menu.as_handler())
            await dispatcher.feed_raw_update(BOT, message())
        assert [type(ctx) for ctx in entered] == [SessionContext, type(None)]

    async def test_lazy_sessions_and_several_managers(self, storage: CountingStorage) -> None:
        class Menu(Scene, state="menu"):
            @on.message.enter()
            async def on_enter(
                self, message: Message, ctx: LazySessionContext[Pizza], cart_ctx: SessionContext[list[str]]
            ) -> None:
                (await ctx.session).count += 1
                cart_ctx.session.append("salami")

        dp = Dispatcher()
        pizzas = SessionManager(Pizza, storage=storage)
        carts = SessionManager(list[str], storage=storage, name="cart", prefix="cart:")
        setup_sessions(dp, pizzas, lazy=True)
        setup_sessions(dp, carts)
        SceneRegistry(dp).add(Menu)
        dp.message.register(Menu.as_handler())

        await dp.feed_raw_update(BOT, message())
        assert await pizzas.get(1) == Pizza(1)
        assert await carts.get(1) == ["salami"]


async def test_several_bots_share_a_chats_session_unless_told_otherwise(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    for bot in (BOT, OTHER_BOT):
        await dp.feed_raw_update(bot, message())
    assert [entry async for entry in sessions.entries()] == [("1", Pizza(2))]


async def test_per_bot_keeps_the_sessions_of_several_bots_apart(sessions: SessionManager[Pizza]) -> None:
    dp = Dispatcher()
    setup_sessions(dp, sessions, per_bot=True)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None:
        session.count += 1

    for bot in (BOT, OTHER_BOT, OTHER_BOT):
        await dp.feed_raw_update(bot, message())
    assert await sessions.get("42:1") == Pizza(1)
    assert await sessions.get("43:1") == Pizza(2)


async def test_per_bot_with_a_prefix(storage: CountingStorage) -> None:
    dp, sessions = Dispatcher(), SessionManager(Pizza, storage=storage, prefix="pizza:")
    setup_sessions(dp, sessions, per_bot=True)

    @dp.message()
    async def on_pizza(message: Message, session: Pizza) -> None: ...

    await dp.feed_raw_update(BOT, message())
    assert (await storage.scan_keys("pizza:", None, 10))[0] == ["pizza:42:1"]


class TestSeveralManagers:
    @pytest.fixture
    def carts(self, storage: CountingStorage) -> SessionManager[list[str]]:
        return SessionManager(list[str], storage=storage, name="cart", prefix="cart:", get_session_key=per_user)

    @pytest.fixture
    def dp(self, dp: Dispatcher, carts: SessionManager[list[str]]) -> Dispatcher:
        setup_sessions(dp, carts)
        return dp

    async def test_a_handler_names_what_it_wants(
        self,
        dp: Dispatcher,
        sessions: SessionManager[Pizza],
        carts: SessionManager[list[str]],
        storage: CountingStorage,
    ) -> None:
        @dp.message(F.text == "one")
        async def one(message: Message, cart: list[str]) -> None:
            cart.append("salami")

        @dp.message(F.text == "both")
        async def both(message: Message, session: Pizza, cart_ctx: SessionContext[list[str]]) -> None:
            session.count += len(cart_ctx.session)
            cart_ctx.session = None

        await dp.feed_raw_update(BOT, message("one"))
        assert storage.calls["lock"] == 1
        assert await carts.get(1) == ["salami"]
        await dp.feed_raw_update(BOT, message("both"))
        assert await sessions.get(1) == Pizza(1)
        assert await carts.get(1) is None

    async def test_a_failure_stores_neither(
        self, dp: Dispatcher, sessions: SessionManager[Pizza], carts: SessionManager[list[str]]
    ) -> None:
        @dp.message()
        async def bad(message: Message, session: Pizza, cart: list[str]) -> None:
            session.count += 1
            cart.append("salami")
            raise RuntimeError

        @dp.errors()
        async def on_error(event: ErrorEvent, session: Pizza, cart: list[str]) -> None:
            assert (session, cart) == (Pizza(), [])

        await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) == Pizza()
        assert await carts.get(1) == []

    async def test_handlers_that_want_both_never_wait_in_a_circle(
        self, dp: Dispatcher, sessions: SessionManager[Pizza], carts: SessionManager[list[str]]
    ) -> None:
        @dp.message(F.text == "one way")
        async def one_way(message: Message, session: Pizza, cart: list[str]) -> None:
            await asyncio.sleep(0)
            session.count += 1

        @dp.message()
        async def other_way(message: Message, cart: list[str], session: Pizza) -> None:
            await asyncio.sleep(0)
            session.count += 1
            cart.append("salami")

        updates = [message(text, user=ANN, chat=group()) for _ in range(25) for text in ("one way", "other way")]
        updates += [message(text, user=BEN, chat=group()) for _ in range(25) for text in ("other way", "one way")]
        async with asyncio.timeout(120):
            await asyncio.gather(*[dp.feed_raw_update(BOT, update) for update in updates])
        assert await sessions.get(-100) == Pizza(100)
        assert [len(await carts.get(user) or []) for user in (1, 2)] == [25, 25]

    async def test_skip_handler_between_them(
        self, dp: Dispatcher, sessions: SessionManager[Pizza], carts: SessionManager[list[str]]
    ) -> None:
        @dp.message()
        async def first(message: Message, cart: list[str]) -> None:
            cart.append("salami")
            raise SkipHandler

        @dp.message()
        async def second(message: Message, session: Pizza) -> None:
            session.count += 1

        await dp.feed_raw_update(BOT, message())
        assert await sessions.get(1) == Pizza(1)
        assert await carts.get(1) == ["salami"]


async def test_two_managers_on_the_same_keys_are_refused(dp: Dispatcher, storage: CountingStorage) -> None:
    """The second would read what the first wrote, and a handler that names both would wait for itself."""
    with pytest.raises(ValueError, match=r"'session' and 'cart' would have the same keys .* give one of them a prefix"):
        setup_sessions(dp, SessionManager(list[str], storage=storage, name="cart"))
    setup_sessions(dp, SessionManager(list[str], storage=storage, name="cart", prefix="cart:"))


def test_two_managers_on_the_same_file_are_refused(tmp_path: Any) -> None:
    dp, url = Dispatcher(), f"sqlite:///{tmp_path}/bot.db"
    setup_sessions(dp, SessionManager(Pizza, storage=url))
    with pytest.raises(ValueError, match="give one of them a prefix"):
        setup_sessions(dp, SessionManager(list[str], storage=url, name="cart", get_session_key=per_user))


def test_managers_in_memories_of_their_own_have_keys_of_their_own(dp: Dispatcher) -> None:
    for name in ("a", "b"):
        setup_sessions(dp, SessionManager(Pizza, storage="memory:", name=name))
    for name in ("c", "d"):
        setup_sessions(dp, SessionManager(Pizza, storage=MemoryStorage(), name=name))


@pytest.mark.parametrize("name", ["bot", "state", "scenes", "handler", "event_chat", "ctx"])
def test_a_name_that_handlers_get_already_is_refused(dp: Dispatcher, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name!r}"):
        setup_sessions(dp, SessionManager(Pizza, storage="memory:", name=name))


async def test_one_update_fed_within_another_of_the_same_chat(dp: Dispatcher) -> None:
    @dp.message(F.text == "outer")
    async def outer(message_: Message, session: Pizza) -> None:
        await dp.feed_raw_update(BOT, message("inner"))

    @dp.message()
    async def inner(message: Message, session: Pizza) -> None: ...

    with pytest.raises(SessionError, match="this task or thread has it open already"):
        await dp.feed_raw_update(BOT, message("outer"))
