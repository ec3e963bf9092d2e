"""Every kind of update gets the key in python-telegram-bot that it gets in aiogram; what it does not know has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import telegram
from aiogram_aids import Pizza, message, update
from ptb_aids import build, builder, errors_of, process
from telegram import Update, __version_info__
from telegram.ext import CallbackContext, TypeHandler
from test_aiogram_updates import FORUM, IN_TOPIC, UPDATES, check_topics

from chatsession import SessionKeyError, SessionManager, per_chat, per_topic, per_user, per_user_in_chat
from chatsession.integrations.telegram_ext import UpdateContext, setup_persistence, setup_sessions

UNKNOWN = UPDATES.keys() - {kind for kind in UPDATES if kind.split()[0] in Update.ALL_TYPES}


async def count(update: object, context: Any) -> None:
    context.session.count += 1


@pytest.mark.parametrize("kind", UPDATES)
async def test_the_key_of(kind: str) -> None:
    check_topics(kind, telegram)
    raw, *expected = UPDATES[kind]
    if kind in UNKNOWN:
        expected = [None] * 4
    for key_function, key in zip((per_chat, per_user, per_user_in_chat, per_topic), expected, strict=True):
        application, sessions = build(), SessionManager(Pizza, storage="memory:", get_session_key=key_function)
        setup_sessions(application, sessions)
        application.add_handler(TypeHandler(Update, count))
        errors = errors_of(application)
        async with application:
            await process(application, raw)
            assert [type(error) for error in errors] == ([SessionKeyError] if key is None else [])
            assert [stored async for stored, _ in sessions.entries()] == ([] if key is None else [key])


def test_kinds_that_this_version_does_not_know_are_among_them() -> None:
    newest = {"subscription", "stopped_message_generation"}
    assert newest == UNKNOWN if __version_info__ >= (22, 8) else newest < UNKNOWN
    assert {kind.split()[0] for kind in UPDATES} > set(Update.ALL_TYPES)


async def test_a_key_function_of_ones_own_gets_the_update_and_the_bot() -> None:
    async def by_text(ctx: UpdateContext) -> str:
        assert (ctx.chat_id, ctx.user_id, ctx.thread_id) == (-300, 1, 5)
        return f"{ctx.bot_id}/{ctx.update.message.text}"  # type: ignore[attr-defined]

    application, sessions = build(), SessionManager(Pizza, storage="memory:", get_session_key=by_text)
    setup_sessions(application, sessions, per_bot=True)
    application.add_handler(TypeHandler(Update, count))
    async with application:
        await process(application, message("margherita", chat=FORUM, **IN_TOPIC))
        assert [key async for key, _ in sessions.entries()] == ["42:42/margherita"]


async def test_updates_of_ones_own_kind(sessions: SessionManager[Pizza]) -> None:
    """What an application processes need not come from Telegram; the key function may know what it is."""
    application = build()
    setup_sessions(application, SessionManager(Pizza, storage="memory:", get_session_key=lambda ctx: ctx.update[1]))
    application.add_handler(TypeHandler(tuple, count))
    errors = errors_of(application)
    async with application:
        await application.process_update(("payment", "7"))
        assert errors == []
        await application.process_update(("payment", None))
        assert [type(error) for error in errors] == [SessionKeyError]


async def test_a_handler_of_updates_without_a_chat_runs_if_it_uses_no_session(sessions: SessionManager[Pizza]) -> None:
    application, seen = build(), []
    setup_sessions(application, sessions)

    async def note(update: Update, context: object) -> None:
        seen.append(update.update_id)

    application.add_handler(TypeHandler(Update, note))
    errors = errors_of(application)
    async with application:
        await process(application, update(poll={"id": "1", **POLL}))
        await process(application, update(thought_transfer={"thought": "pizza"}))
    assert len(seen) == 2
    assert errors == []


POLL = {
    "question": "?",
    "options": [],
    "total_voter_count": 0,
    "is_closed": False,
    "is_anonymous": True,
    "type": "regular",
    "allows_multiple_answers": False,
    "allows_revoting": True,
    "members_only": False,
}


@dataclass
class Payment:
    """An update of an application's own kind, as in python-telegram-bot's example of a web server of one's own."""

    user_id: int
    payload: str


class PaymentContext(CallbackContext[Any, Any, Any, Any]):
    """Knows whose payment it is, as in that example."""

    @classmethod
    def from_update(cls, update: object, application: Any) -> Any:
        if isinstance(update, Payment):
            return cls(application, user_id=update.user_id)
        return super().from_update(update, application)


async def test_a_context_that_knows_the_user_of_an_own_kind(sessions: SessionManager[Pizza]) -> None:
    application = builder(PaymentContext).build()
    users = SessionManager(Pizza, storage="memory:", get_session_key=per_user)
    setup_sessions(application, users)
    setup_persistence(application, "memory:")

    async def on_payment(update: Payment, context: Any) -> None:
        context.user_data.setdefault("payloads", []).append(update.payload)
        context.session.count += 1

    application.add_handler(TypeHandler(Payment, on_payment))
    errors = errors_of(application)
    async with application:
        await application.process_update(Payment(7, "one"))
        await application.process_update(Payment(7, "two"))
        assert errors == []
        assert await users.get(7) == Pizza(2)
        assert await application.persistence.get_user_data() == {7: {"payloads": ["one", "two"]}}
