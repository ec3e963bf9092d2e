"""Every kind of update, as Telegram sends it, and the key that it gets."""

from __future__ import annotations

from typing import Any

import pytest
from aiogram import Dispatcher, types
from aiogram.types import InaccessibleMessage, TelegramObject
from aiogram_aids import ANN, BEN, BOT, DATE, Pizza, group, inline_query, message, update, written

from chatsession import SessionKeyError, SessionManager, per_chat, per_topic, per_user, per_user_in_chat
from chatsession.integrations.aiogram import SessionContext, UpdateContext, setup_sessions
from chatsession_playground import _updates as build
from chatsession_playground._updates import JsonObject, User

CHANNEL = build.titled_chat(-200, "channel", "Channel")
FORUM = build.titled_chat(-300, "supergroup", "Forum", is_forum=True)
IN_TOPIC = {"message_thread_id": 5, "is_topic_message": True}
DIRECT = build.titled_chat(-400, "supergroup", "Channel") | {"is_direct_messages": True}
TO_CHANNEL = {"direct_messages_topic": {"topic_id": 1, "user": ANN.json()}}
REPLY = {"message_thread_id": 6}  # of a supergroup without topics, which numbers threads of replies too
BUSINESS = {"business_connection_id": "shop"}
ANONYMOUS, AS_CHANNEL = User(1087968824, "Group", is_bot=True), User(136817688, "Channel", is_bot=True)
BOT_USER = User(43, "Other bot", "other_bot", is_bot=True)
TOMATO = {"type": "emoji", "emoji": "🍅"}
ADDRESS = dict.fromkeys(("country_code", "state", "city", "street_line1", "street_line2", "post_code"), "IT")
TO_ANN = {"currency": "XTR", "total_amount": 1, "invoice_payload": "pizza", "from": ANN.json(), "id": "1"}


def pressed(pressed_on: JsonObject | None) -> JsonObject:
    query = build.callback_query("1", ANN, "here", "order", pressed_on=pressed_on, inline_message_id=None)
    return update(callback_query=query)


def boost(source: str, user: User) -> JsonObject:
    return {"boost_id": "b", "add_date": DATE, "expiration_date": DATE} | {"source": boosted_by(source, user)}


def boosted_by(source: str, user: User) -> JsonObject:
    return {"source": source, "user": user.json()}


def member(chat: JsonObject, by: User = ANN) -> JsonObject:
    return build.chat_member_updated(chat, by, DATE, BEN, "member", "left")


# What comes in, and its keys per_chat, per_user, per_user_in_chat and per_topic.
UPDATES: dict[str, tuple[JsonObject, str | None, str | None, str | None, str | None]] = {
    "message in private": (message(), "1", "1", "1:1", "1"),
    "message in a group": (message(chat=group()), "-100", "1", "-100:1", "-100"),
    "message in a topic": (message(chat=FORUM, **IN_TOPIC), "-300", "1", "-300:1", "-300:5"),
    "message in a thread of replies": (message(chat=group(), **REPLY), "-100", "1", "-100:1", "-100"),
    "message in a channel's direct messages": (message(chat=DIRECT, **TO_CHANNEL), "-400", "1", "-400:1", "-400:1"),
    "message of a new topic": (
        message("", chat=FORUM, **IN_TOPIC, forum_topic_created={"name": "Pasta", "icon_color": 1}),
        *("-300", "1", "-300:1", "-300:5"),
    ),
    "edited_message": (update(edited_message=written(edit_date=DATE)), "1", "1", "1:1", "1"),
    "edited_message in a topic": (
        update(edited_message=written(chat=FORUM, edit_date=DATE, **IN_TOPIC)),
        *("-300", "1", "-300:1", "-300:5"),
    ),
    "channel_post": (update(channel_post=written(user=None, chat=CHANNEL)), "-200", None, None, "-200"),
    "edited_channel_post": (
        update(edited_channel_post=written(user=None, chat=CHANNEL, edit_date=DATE)),
        *("-200", None, None, "-200"),
    ),
    "inline_query": (inline_query(), None, "1", None, None),
    "chosen_inline_result": (
        update(chosen_inline_result=build.chosen_inline_result(ANN, "1", "pizza", "inline-1")),
        *(None, "1", None, None),
    ),
    "callback_query": (pressed(written(user=BEN, chat=group())), "-100", "1", "-100:1", "-100"),
    "callback_query in a topic": (
        pressed(written(user=BEN, chat=FORUM, **IN_TOPIC)),
        *("-300", "1", "-300:1", "-300:5"),
    ),
    "callback_query in a channel's direct messages": (
        pressed(written(user=BEN, chat=DIRECT, **TO_CHANNEL)),
        *("-400", "1", "-400:1", "-400:1"),
    ),
    "callback_query under an old message": (
        pressed({"chat": group(), "message_id": 3, "date": 0}),
        *("-100", "1", "-100:1", "-100"),
    ),
    "callback_query under an inline message": (
        update(callback_query=build.callback_query("1", ANN, "here", "order", inline_message_id="inline-1")),
        *(None, "1", None, None),
    ),
    "callback_query of a business": (
        pressed(written(user=BEN, **BUSINESS)),
        *("shop:2", "1", "shop:2:1", "shop:2"),
    ),
    "shipping_query": (update(shipping_query=TO_ANN | {"shipping_address": ADDRESS}), None, "1", None, None),
    "pre_checkout_query": (update(pre_checkout_query=TO_ANN), None, "1", None, None),
    "poll": (update(poll=build.poll("1", "Which?", {"a": 1, "b": 0})), None, None, None, None),
    "poll_answer": (update(poll_answer=build.poll_answer("1", ANN, [0])), None, "1", None, None),
    "poll_answer of a channel": (
        update(
            poll_answer={"poll_id": "1", "voter_chat": CHANNEL, "option_ids": [0], "option_persistent_ids": ["0"]},
        ),
        *("-200", None, None, "-200"),
    ),
    "poll_answer of a channel that has a user": (
        update(
            poll_answer={
                "poll_id": "1",
                "voter_chat": CHANNEL,
                "user": AS_CHANNEL.json(),
                "option_ids": [0],
                "option_persistent_ids": ["0"],
            },
        ),
        *("-200", "-200", "-200:-200", "-200"),
    ),
    "my_chat_member by an anonymous admin": (
        update(my_chat_member=member(group(), by=ANONYMOUS)),
        *("-100", "-100", "-100:-100", "-100"),
    ),
    "edited_message of a channel in a group": (
        update(edited_message=written(user=AS_CHANNEL, chat=group(), sender_chat=CHANNEL, edit_date=DATE)),
        *("-100", "-200", "-100:-200", "-100"),
    ),
    "my_chat_member": (update(my_chat_member=member(group())), "-100", "1", "-100:1", "-100"),
    "chat_member": (update(chat_member=member(CHANNEL)), "-200", "1", "-200:1", "-200"),
    "chat_join_request": (
        update(chat_join_request={"chat": group(), "from": ANN.json(), "user_chat_id": 1, "date": DATE}),
        *("-100", "1", "-100:1", "-100"),
    ),
    "message_reaction": (
        update(message_reaction=build.message_reaction(group(), 3, DATE, ANN, [], ["👍"])),
        *("-100", "1", "-100:1", "-100"),
    ),
    "message_reaction of an anonymous admin": (
        update(
            message_reaction={
                "chat": group(),
                "message_id": 3,
                "actor_chat": group(),
                "date": DATE,
                "old_reaction": [],
                "new_reaction": [TOMATO],
            },
        ),
        *("-100", None, None, "-100"),
    ),
    "message_reaction_count": (
        update(
            message_reaction_count={
                "chat": CHANNEL,
                "message_id": 3,
                "date": DATE,
                "reactions": [{"type": TOMATO, "total_count": 2}],
            },
        ),
        *("-200", None, None, "-200"),
    ),
    "chat_boost": (update(chat_boost={"chat": group(), "boost": boost("premium", ANN)}), "-100", "1", "-100:1", "-100"),
    "chat_boost as a gift": (  # whose user is the one who got it
        update(chat_boost={"chat": group(), "boost": boost("gift_code", ANN)}),
        *("-100", None, None, "-100"),
    ),
    "removed_chat_boost": (
        update(
            removed_chat_boost={
                "chat": group(),
                "boost_id": "b",
                "remove_date": DATE,
                "source": boosted_by("premium", ANN),
            },
        ),
        *("-100", None, None, "-100"),
    ),
    "business_connection": (
        update(business_connection=build.business_connection("shop", ANN, DATE, is_enabled=True)),
        *(None, "1", None, None),
    ),
    "business_message": (update(business_message=written(**BUSINESS)), "shop:1", "1", "shop:1:1", "shop:1"),
    "edited_business_message": (
        update(edited_business_message=written(**BUSINESS, edit_date=DATE)),
        *("shop:1", "1", "shop:1:1", "shop:1"),
    ),
    "deleted_business_messages": (
        update(deleted_business_messages=build.deleted_business_messages("shop", build.private_chat(ANN), [3])),
        *("shop:1", None, None, "shop:1"),
    ),
    "purchased_paid_media": (
        update(purchased_paid_media={"from": ANN.json(), "paid_media_payload": "photo"}),
        *(None, "1", None, None),
    ),
    "managed_bot": (update(managed_bot={"user": ANN.json(), "bot": BOT_USER.json()}), None, "1", None, None),
    "guest_message": (update(guest_message=written(chat=group())), "-100", "1", "-100:1", "-100"),
    "subscription": (
        update(subscription={"user": ANN.json(), "invoice_payload": "pizza", "state": "active"}),
        *(None, "1", None, None),
    ),
    "stopped_message_generation": (
        update(stopped_message_generation={"chat": build.private_chat(ANN), "draft_id": 1, "message_thread_id": 5}),
        *("1", None, None, "1:5"),
    ),
}


def check_topics(kind: str, framework: object) -> None:
    """Skip what needs a framework that knows topics of direct messages."""
    if "direct messages" in kind and not hasattr(framework, "DirectMessagesTopic"):
        pytest.skip("this version does not know topics of direct messages")


@pytest.mark.parametrize("kind", UPDATES)
async def test_the_key_of(kind: str) -> None:
    raw, *expected = UPDATES[kind]
    observer = kind.split()[0]
    if observer not in Dispatcher().observers:
        pytest.skip("this aiogram does not know it")
    check_topics(kind, types)
    for key_function, key in zip((per_chat, per_user, per_user_in_chat, per_topic), expected, strict=True):
        dp, sessions = Dispatcher(), SessionManager(Pizza, storage="memory:", get_session_key=key_function)
        setup_sessions(dp, sessions)

        @dp.observers[observer]()
        async def on_anything(event: TelegramObject, ctx: SessionContext[Pizza]) -> str:
            ctx.session.count += 1
            return "handled"

        if key is None:
            with pytest.raises(SessionKeyError, match="this update has no"):
                await dp.feed_raw_update(BOT, raw)
        else:
            assert await dp.feed_raw_update(BOT, raw) == "handled"
        assert [stored async for stored, _ in sessions.entries()] == ([] if key is None else [key])


def test_every_kind_of_update_that_aiogram_knows_is_among_them() -> None:
    assert Dispatcher().observers.keys() - {"update", "error"} <= {kind.split()[0] for kind in UPDATES}


async def test_an_old_message_is_what_the_test_of_it_means(dp: Dispatcher) -> None:
    @dp.callback_query()
    async def on_button(query: Any) -> type:
        return type(query.message)

    old = UPDATES["callback_query under an old message"][0]
    assert await dp.feed_raw_update(BOT, old) is InaccessibleMessage


async def test_a_business_does_not_share_its_customers_own_chat(
    dp: Dispatcher, sessions: SessionManager[Pizza]
) -> None:
    @dp.message()
    async def on_message(message: TelegramObject, session: Pizza) -> None:
        session.count = 1

    @dp.business_message()
    async def on_business(message: TelegramObject, session: Pizza) -> None:
        assert session.count == 0
        session.count = 2

    await dp.feed_raw_update(BOT, message())
    await dp.feed_raw_update(BOT, update(business_message=written(**BUSINESS)))
    assert {key: pizza.count async for key, pizza in sessions.entries()} == {"1": 1, "shop:1": 2}


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_key_function_of_ones_own_gets_the_update_and_the_bot(is_async: bool) -> None:
    def by_text(ctx: UpdateContext) -> str:
        assert ctx.chat_id == -300
        assert ctx.user_id == 1
        assert ctx.thread_id == 5
        assert ctx.business_connection_id is None
        return f"{ctx.bot_id}/{ctx.update.message.text}"  # type: ignore[attr-defined]

    async def by_text_async(ctx: UpdateContext) -> str:
        return by_text(ctx)

    dp = Dispatcher()
    sessions = SessionManager(
        Pizza, storage="memory:", get_session_key=by_text_async if is_async else by_text, prefix="pizza:"
    )
    setup_sessions(dp, sessions)

    @dp.message()
    async def on_message(message: TelegramObject, session: Pizza) -> None:
        session.count += 1

    await dp.feed_raw_update(BOT, message("margherita", chat=FORUM, **IN_TOPIC))
    assert await sessions.get("42/margherita") == Pizza(1)
    assert [key async for key, _ in sessions.entries()] == ["42/margherita"]


async def test_anonymous_admins_of_two_groups_are_two_users() -> None:
    sessions = SessionManager(int, storage="memory:", get_session_key=per_user)
    dispatcher = Dispatcher()
    setup_sessions(dispatcher, sessions)

    async def on_message(event: TelegramObject, ctx: SessionContext[int]) -> None:
        ctx.session += 1

    dispatcher.message.register(on_message)
    anonymous = {"id": 1087968824, "is_bot": True, "first_name": "Group"}
    for number, where in enumerate((-1001, -1002, -1002)):
        chat = {"id": where, "type": "supergroup", "title": "a group"}
        sent = {"message_id": number, "date": 0, "chat": chat, "from": anonymous, "sender_chat": chat, "text": "a"}
        await dispatcher.feed_raw_update(BOT, {"update_id": number, "message": sent})
    assert [await sessions.get(key) for key in (-1001, -1002, 1087968824)] == [1, 2, None]
