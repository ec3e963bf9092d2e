"""Every kind of update has in telebot the key that it has in aiogram."""

from __future__ import annotations

from typing import Any

import pytest
from aiogram_aids import Pizza
from telebot import types
from telebot.util import update_types
from telebot.version import __version__ as telebot_version
from telebot_aids import feed, make_bot
from test_aiogram_updates import UPDATES, check_topics

from chatsession import SessionKeyError, SessionManager, per_chat, per_topic, per_user, per_user_in_chat
from chatsession.integrations.telebot import SessionContext, setup_sessions

_LISTS = {
    "inline_query": "inline_handlers",
    "chosen_inline_result": "chosen_inline_handlers",
    "deleted_business_messages": "deleted_business_messages_handlers",
}


@pytest.mark.parametrize("kind", UPDATES)
async def test_the_key_of(kind: str) -> None:
    check_topics(kind, types)
    raw, *expected = UPDATES[kind]
    update_type = kind.split()[0]
    handlers_of = _LISTS.get(update_type, f"{update_type}_handlers")
    if not hasattr(make_bot(), handlers_of) or (kind, telebot_version) == ("removed_chat_boost", "4.27.0"):
        pytest.skip(f"telebot {telebot_version} does not dispatch it")
    if kind == "purchased_paid_media":  # telebot 4.37 looks for `from_user`, which Telegram never sends
        raw = {**raw, kind: {**raw[kind], "from_user": raw[kind]["from"]}}
    for key_function, key in zip((per_chat, per_user, per_user_in_chat, per_topic), expected, strict=True):
        errors: list[BaseException] = []
        bot, sessions = make_bot(errors), SessionManager(Pizza, storage="memory:", get_session_key=key_function)
        setup_sessions(bot, sessions)
        seen: list[str] = []

        async def on_anything(event: object, ctx: SessionContext[Pizza], seen: Any = seen) -> None:
            seen.append("handled")
            ctx.session.count += 1

        getattr(bot, handlers_of).append(bot._build_handler_dict(on_anything))
        await feed(bot, raw)
        assert seen == ["handled"]
        assert [type(error) for error in errors] == ([SessionKeyError] if key is None else [])
        assert [stored async for stored, _ in sessions.entries()] == ([] if key is None else [key])


def test_every_kind_of_update_that_telebot_knows_is_among_them() -> None:
    assert set(update_types) <= {kind.split()[0] for kind in UPDATES}
