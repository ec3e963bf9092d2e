"""The states of a group that becomes a supergroup follow it, in whichever order Telegram's messages come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiogram import Dispatcher, F
from aiogram.fsm.context import FSMContext
from aiogram.fsm.storage.base import StorageKey
from aiogram.fsm.strategy import FSMStrategy
from aiogram.types import Message
from aiogram_aids import ANN, BEN, BOT, Pizza, group, message, update, value_of

from chatsession import SessionManager
from chatsession.integrations.aiogram import SessionFSMStorage, setup_fsm, setup_sessions
from chatsession_playground import _updates as build
from chatsession_playground._updates import JsonObject

OLD, NEW, OTHER = -2002, -1002002, -20025
BASIC = build.titled_chat(OLD, "group", "Group")
SUPERGROUP = group(NEW)


def upgraded() -> JsonObject:
    """In the old group: it has become a supergroup."""
    return _service(BASIC, migrate_to_chat_id=NEW)


def came_from() -> JsonObject:
    """In the supergroup: it was a group."""
    return _service(SUPERGROUP, migrate_from_chat_id=OLD)


def _service(chat: JsonObject, **content: int) -> JsonObject:
    return update(message=build.message(1, 1_780_000_000, chat, ANN, **content))


ORDERS = [[upgraded], [came_from], [upgraded, came_from], [came_from, upgraded]]


@pytest.fixture(params=["memory:", "sqlite"])
async def fsm(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[SessionFSMStorage]:
    url = "memory:" if request.param == "memory:" else f"sqlite:///{tmp_path}/bot.db"
    storage = SessionFSMStorage(url)
    await storage.start()
    yield storage
    await storage.close()


def counting_bot(fsm: SessionFSMStorage, strategy: FSMStrategy = FSMStrategy.USER_IN_CHAT) -> Dispatcher:
    dp = Dispatcher(fsm_strategy=strategy)
    setup_fsm(dp, fsm)

    @dp.message(F.text)
    async def on_text(message: Message, state: FSMContext) -> None:
        await state.set_state("counting")
        await state.update_data(count=await value_of(state, "count", 0) + 1)

    return dp


def key_in(chat_id: int, user_id: int = 1, **parts: Any) -> StorageKey:
    return StorageKey(bot_id=42, chat_id=chat_id, user_id=user_id, **parts)


@pytest.mark.parametrize("order", ORDERS)
async def test_the_states_of_all_members_follow(fsm: SessionFSMStorage, order: list[Any]) -> None:
    dp = counting_bot(fsm)
    for user in (ANN, BEN, BEN):
        await dp.feed_raw_update(BOT, message(user=user, chat=BASIC))
    for service_message in order:
        await dp.feed_raw_update(BOT, service_message())
    for user in (ANN, BEN):
        await dp.feed_raw_update(BOT, message(user=user, chat=SUPERGROUP))
    assert await fsm.get_data(key_in(NEW)) == {"count": 2}
    assert await fsm.get_data(key_in(NEW, 2)) == {"count": 3}
    assert await fsm.get_state(key_in(NEW, 2)) == "counting"


@pytest.mark.parametrize("order", ORDERS)
async def test_updates_of_the_old_group_that_come_later(fsm: SessionFSMStorage, order: list[Any]) -> None:
    dp = counting_bot(fsm)
    await dp.feed_raw_update(BOT, message(chat=BASIC))
    for service_message in order:
        await dp.feed_raw_update(BOT, service_message())
        await dp.feed_raw_update(BOT, message(chat=BASIC))
        await dp.feed_raw_update(BOT, message(chat=SUPERGROUP))
    assert await fsm.get_data(key_in(NEW)) == {"count": 1 + 2 * len(order)}
    assert await fsm.get_data(key_in(OLD)) == {"count": 1 + 2 * len(order)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("strategy", [FSMStrategy.CHAT, FSMStrategy.CHAT_TOPIC])
async def test_the_state_of_the_chat_follows(fsm: SessionFSMStorage, strategy: FSMStrategy, order: list[Any]) -> None:
    dp = counting_bot(fsm, strategy)
    await dp.feed_raw_update(BOT, message(chat=BASIC))
    for service_message in order:
        await dp.feed_raw_update(BOT, service_message())
    await dp.feed_raw_update(BOT, message(user=BEN, chat=BASIC))
    await dp.feed_raw_update(BOT, message(user=BEN, chat=SUPERGROUP))
    assert await fsm.get_data(key_in(NEW, NEW)) == {"count": 3}


async def test_an_empty_chats_later_updates_meet_under_one_state(fsm: SessionFSMStorage) -> None:
    dp = counting_bot(fsm, FSMStrategy.CHAT)
    await dp.feed_raw_update(BOT, upgraded())
    await dp.feed_raw_update(BOT, message(chat=BASIC))
    await dp.feed_raw_update(BOT, message(chat=SUPERGROUP))
    assert await fsm.get_data(key_in(NEW, NEW)) == {"count": 2}


async def test_a_users_one_state_stays_where_it_is(fsm: SessionFSMStorage) -> None:
    dp = counting_bot(fsm, FSMStrategy.GLOBAL_USER)
    for update_ in (message(chat=BASIC), upgraded(), came_from(), message(chat=SUPERGROUP)):
        await dp.feed_raw_update(BOT, update_)
    assert await fsm.get_data(key_in(1)) == {"count": 2}


async def test_all_parts_of_a_key_but_the_chat_stay(fsm: SessionFSMStorage) -> None:
    dp = counting_bot(fsm)
    parts: list[dict[str, Any]] = [{}, {"destiny": "a:b#c"}, {"thread_id": 7}, {"business_connection_id": f"{OLD}:"}]
    for number, each in enumerate(parts):
        await fsm.set_data(key_in(OLD, **each), {"number": number})
    await fsm.set_data(key_in(OTHER), {"number": 9})
    await fsm.set_data(StorageKey(bot_id=43, chat_id=OLD, user_id=1), {"number": 10})
    await dp.feed_raw_update(BOT, upgraded())
    for number, each in enumerate(parts):
        assert await fsm.get_data(key_in(NEW, **each)) == {"number": number}
    assert await fsm.get_data(key_in(OTHER)) == {"number": 9}
    assert await fsm.get_data(StorageKey(bot_id=43, chat_id=NEW, user_id=1)) == {}


async def test_both_messages_and_a_crowd_at_once(fsm: SessionFSMStorage) -> None:
    dp = counting_bot(fsm)
    for user in (ANN, BEN):
        await dp.feed_raw_update(BOT, message(user=user, chat=BASIC))
    crowd = [message(user=user, chat=BASIC) for _ in range(10) for user in (ANN, BEN)]
    await asyncio.gather(
        *(dp.feed_raw_update(BOT, each) for each in [*crowd[:10], upgraded(), came_from(), *crowd[10:]])
    )
    assert await fsm.get_data(key_in(NEW)) == await fsm.get_data(key_in(NEW, 2)) == {"count": 11}


async def test_a_session_beside_the_states_follows_too(fsm: SessionFSMStorage) -> None:
    dp = counting_bot(fsm)
    sessions = SessionManager(Pizza, storage=fsm.sessions.storage)
    setup_sessions(dp, sessions)
    await sessions.put(OLD, Pizza(3))
    for update_ in (message(chat=BASIC), upgraded(), came_from()):
        await dp.feed_raw_update(BOT, update_)
    assert (await sessions.get(NEW), await fsm.get_data(key_in(NEW))) == (Pizza(3), {"count": 1})


async def test_middlewares_keep_their_order(fsm: SessionFSMStorage) -> None:
    dp = Dispatcher()
    order: list[str] = []

    async def early(handler: Any, event: Any, data: dict[str, Any]) -> Any:
        order.append(f"early, {'state' in data}")
        return await handler(event, data)

    async def late(handler: Any, event: Any, data: dict[str, Any]) -> Any:
        order.append("late")
        return await handler(event, data)

    dp.update.outer_middleware(early)
    setup_fsm(dp, fsm)
    dp.update.outer_middleware(late)
    await dp.feed_raw_update(BOT, message())
    assert order == ["early, True", "late"]
