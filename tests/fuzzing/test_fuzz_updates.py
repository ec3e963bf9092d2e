"""Updates of any shape, as anybody sends them to a webhook that has no secret: no failure of ours."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
from aiogram import Bot, Dispatcher
from aiogram.types import TelegramObject
from fuzz_aids import fuzzed, json_values, numbers
from hypothesis import strategies as st
from pydantic import ValidationError
from telebot import types as telebot_types
from telegram import Update

from chatsession import (
    SessionError,
    SessionKeyError,
    SessionManager,
    per_chat,
    per_topic,
    per_user,
    per_user_in_chat,
)
from chatsession.integrations.aiogram import SessionContext, setup_sessions
from chatsession.integrations.telebot import _ids as telebot
from chatsession.integrations.telegram_ext import _ids as telegram_ext

KEYS = (per_chat, per_user, per_user_in_chat, per_topic)
ANN = {"id": 1, "is_bot": False, "first_name": "Ann"}
GROUP = {"id": -100, "type": "supergroup", "title": "Group", "is_forum": True}
MESSAGE: dict[str, Any] = {
    "message_id": 1, "date": 1_780_000_000, "chat": GROUP, "from": ANN, "text": "hi", "message_thread_id": 5,
    "is_topic_message": True,
}  # fmt: skip
UPDATES: list[dict[str, Any]] = [
    {"update_id": 1, "message": MESSAGE},
    {"update_id": 2, "edited_message": MESSAGE | {"edit_date": 1_780_000_000, "business_connection_id": "b"}},
    {"update_id": 3, "message": MESSAGE | {"migrate_to_chat_id": -1001}},
    {"update_id": 4, "message": MESSAGE | {"migrate_from_chat_id": -7}},
    {"update_id": 5, "callback_query": {"id": "1", "from": ANN, "chat_instance": "1", "data": "x", "message": MESSAGE}},
    {"update_id": 6, "inline_query": {"id": "1", "from": ANN, "query": "x", "offset": ""}},
    {"update_id": 7, "channel_post": {**MESSAGE, "from": None}},
    {"update_id": 8, "poll_answer": {"poll_id": "1", "voter_chat": GROUP, "user": ANN, "option_ids": [1]}},
    {"update_id": 9, "business_connection": {"id": "b", "user": ANN, "user_chat_id": 1, "date": 1, "is_enabled": True}},
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for name, child in children for place in _places(child, (*path, name))]


@st.composite
def updates(draw: st.DrawFn) -> dict[str, Any]:
    """An update as Telegram sends it, of which a few parts are missing, something else, or moved."""
    update = copy.deepcopy(draw(st.sampled_from(UPDATES)))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(_places(update) or [("x",)]))
        inner: Any = update
        for step in way:
            inner = inner[step]
        match draw(st.integers(0, 2)):
            case 0:
                del inner[last]
            case 1:
                inner[last] = draw(json_values | numbers)
            case _:
                inner[last] = copy.deepcopy(draw(st.sampled_from(UPDATES)))
        if not update:
            break
    return update


MANAGERS = [SessionManager(int, storage="memory:", get_session_key=function) for function in KEYS]


def check_keys(context: Any) -> None:
    """Every key function gives a key, none, or an error of the contract."""
    for manager in MANAGERS:
        with contextlib.suppress(SessionKeyError):
            key = manager.units.key(context)
            assert key is None or isinstance(key, str)


@fuzzed(updates(), examples=60)
def test_aiogram_refuses_it_or_it_is_handled(raw: dict[str, Any]) -> None:
    async def check() -> None:
        async with SessionManager(int, storage="memory:", deduplicate=3) as sessions:
            await sessions.update("canary", lambda _: 7)
            dispatcher = Dispatcher()
            setup_sessions(dispatcher, sessions)

            async def handler(event: TelegramObject, ctx: SessionContext[int]) -> None:
                with contextlib.suppress(SessionKeyError):
                    ctx.session += 1

            for observer in dispatcher.observers.values():
                observer.register(handler)
            with contextlib.suppress(ValidationError):
                await dispatcher.feed_raw_update(Bot("42:playground"), raw)
            assert await sessions.get("canary") == 7

    asyncio.run(check())


@fuzzed(updates(), examples=200)
@pytest.mark.filterwarnings("ignore")
def test_python_telegram_bot_refuses_it_or_it_has_a_key(raw: dict[str, Any]) -> None:
    try:
        update = Update.de_json(copy.deepcopy(raw), None)
    except Exception:  # its own, of what Telegram never sends
        return
    try:
        effective = update.effective_chat, update.effective_user, update.effective_message
        hash(effective)
    except Exception:
        return
    check_keys(telegram_ext.ids_of_update(update, 42))


@fuzzed(updates(), examples=200)
def test_telebot_refuses_it_or_it_has_a_key(raw: dict[str, Any]) -> None:
    try:
        update = telebot_types.Update.de_json(json.dumps(raw))
    except Exception:  # its own
        return
    if update is None:
        return
    for payload in telebot.payloads(update):
        check_keys(telebot.context_of(SimpleNamespace(bot_id=42), payload, update.update_id, None))


@fuzzed(json_values | numbers, json_values, json_values, json_values)
def test_ids_of_any_type_give_a_key_or_an_error(chat: Any, user: Any, thread: Any, business: Any) -> None:
    context = SimpleNamespace(chat_id=chat, user_id=user, thread_id=thread, business_connection_id=business)
    with contextlib.suppress(SessionError):
        check_keys(context)
