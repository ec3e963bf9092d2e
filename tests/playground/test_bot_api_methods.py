"""What the bot may ask for, in the four ways of sending parameters, and how it is refused."""

import json

import aiohttp
import pytest
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError, TelegramMigrateToChat
from aiogram.types import (
    BotCommand,
    ChatMemberRestricted,
    ChatPermissions,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InlineQueryResultArticle,
    InputTextMessageContent,
    Message,
    ReactionTypeEmoji,
    ReplyKeyboardRemove,
    ReplyParameters,
)

from chatsession_playground.bot_api import BotApiServer, User

BUTTON = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="More", callback_data="more")]])


async def test_get_me_says_who_the_bot_is(bot: Bot) -> None:
    me = await bot.get_me()
    assert (me.id, me.is_bot, me.username) == (42, True, "playground_42_bot")


async def test_a_message_is_sent_edited_and_deleted(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    sent = await bot.send_message(1, "hello", reply_markup=BUTTON)
    assert sent.reply_markup is not None
    assert sent.reply_markup.inline_keyboard[0][0].callback_data == "more"
    received = await ann.receive()
    assert (received.id, received.text) == (sent.message_id, "hello")

    edited = await bot.edit_message_text("bye", chat_id=1, message_id=sent.message_id)
    assert isinstance(edited, Message)
    assert (edited.text, edited.reply_markup) == ("bye", None)
    with pytest.raises(TelegramBadRequest, match="message is not modified"):
        await bot.edit_message_text("bye", chat_id=1, message_id=sent.message_id)
    assert received.json["text"] == "hello"  # what was received stays as it was

    assert await bot.delete_message(1, sent.message_id)
    with pytest.raises(TelegramBadRequest, match="message to delete not found"):
        await bot.delete_message(1, sent.message_id)


async def test_replies_and_topics(api: BotApiServer, bot: Bot) -> None:
    forum = api.supergroup(topics=["News"])
    question = forum.send("what's new?", thread_id=forum.topics["News"])
    answer = await bot.send_message(
        forum.id,
        "nothing",
        message_thread_id=forum.topics["News"],
        reply_parameters=ReplyParameters(message_id=question.message_id),
        reply_markup=ReplyKeyboardRemove(),
    )
    assert answer.is_topic_message
    assert answer.reply_to_message is not None
    assert answer.reply_to_message.text == "what's new?"
    assert (await forum.receive()).thread_id == forum.topics["News"]
    with pytest.raises(TelegramBadRequest, match="message to be replied not found"):
        await bot.send_message(forum.id, "?", reply_parameters=ReplyParameters(message_id=999))


async def test_queries_are_answered_once(api: BotApiServer, bot: Bot) -> None:
    ann = api.private_chat(1)
    await bot.send_message(1, "press", reply_markup=BUTTON)
    ann.press("more")
    api.inline_query(ann.user, "piz")
    callback, inline = await bot.get_updates()
    assert callback.callback_query is not None
    assert inline.inline_query is not None

    assert await bot.answer_callback_query(callback.callback_query.id, text="ok", show_alert=True)
    call = await api.next_call("answerCallbackQuery")
    assert call.params["show_alert"] is True
    with pytest.raises(TelegramBadRequest, match="query is too old"):
        await bot.answer_callback_query(callback.callback_query.id)

    content = InputTextMessageContent(message_text="🍕")
    pizza = InlineQueryResultArticle(id="1", title="Pizza", input_message_content=content)
    assert await bot.answer_inline_query(inline.inline_query.id, [pizza], cache_time=1)
    assert (await api.next_call("answerInlineQuery")).params["cache_time"] == 1


async def test_small_methods(api: BotApiServer, bot: Bot) -> None:
    question = api.private_chat(1, "Ann").send("hello")
    assert await bot.send_chat_action(1, "typing")
    assert await bot.set_my_commands([BotCommand(command="reset", description="Forget")])
    assert await bot.set_message_reaction(1, question.message_id, [ReactionTypeEmoji(emoji="👍")])
    assert (await bot.get_chat(1)).first_name == "Ann"
    assert await bot.log_out()
    assert [call.method for call in api.calls] == [
        "sendChatAction",
        "setMyCommands",
        "setMessageReaction",
        "getChat",
        "logOut",
    ]


async def test_members_are_looked_up_and_restricted(api: BotApiServer, bot: Bot) -> None:
    ann, ben, eve = User(1, "Ann"), User(2, "Ben"), User(3, "Eve")
    cats = api.supergroup(user=ann)
    cats.send("buy pills", user=eve)
    cats.set_member_status(ben, "member", "administrator")

    async def status(user: User) -> str:
        return (await bot.get_chat_member(cats.id, user.id)).status

    assert [await status(user) for user in (ann, ben, eve)] == ["creator", "administrator", "member"]
    assert (await bot.get_chat_member(cats.id, 42)).status == "member"
    with pytest.raises(TelegramBadRequest, match="user not found"):
        await bot.get_chat_member(cats.id, 99)

    silent = ChatPermissions(can_send_messages=False, can_invite_users=True)
    assert await bot.restrict_chat_member(cats.id, eve.id, silent, until_date=2_000_000_000)
    member = await bot.get_chat_member(cats.id, eve.id)
    assert isinstance(member, ChatMemberRestricted)
    assert (member.user.first_name, member.can_send_messages, member.can_invite_users) == ("Eve", False, True)
    assert member.until_date.timestamp() == 2_000_000_000
    assert (await api.next_call("restrictChatMember")).params["user_id"] == eve.id
    everything = ChatPermissions(**dict.fromkeys(ChatPermissions.model_fields, True))
    assert await bot.restrict_chat_member(cats.id, eve.id, everything)
    assert await status(eve) == "member"

    with pytest.raises(TelegramBadRequest, match="is an administrator"):
        await bot.restrict_chat_member(cats.id, ben.id, silent)
    with pytest.raises(TelegramBadRequest, match="only for supergroups"):
        await bot.restrict_chat_member(api.group(-5, user=ann).id, ann.id, silent)


async def test_wrong_parameters_are_refused_in_telegrams_words(api: BotApiServer, bot: Bot) -> None:
    question = api.private_chat(1).send("hello")
    for refused, words in [
        (bot.send_message(2, "hello"), "chat not found"),
        (bot.send_message("@nobody", "hello"), "chat not found"),
        (bot.send_message("", "hello"), "chat_id is empty"),
        (bot.send_message(1, " "), "message text is empty"),
        (bot.send_message(1, "🍕" * 2049), "message is too long"),
        (bot.edit_message_text("x", chat_id=1, message_id=99), "message to edit not found"),
        (bot.edit_message_text("x", chat_id=1), "message identifier is not specified"),
        (bot.edit_message_text("x", chat_id=1, message_id=question.message_id), "message can't be edited"),
        (bot.send_chat_action(1, "dancing"), "wrong parameter action in request"),
        (bot.set_my_commands([BotCommand(command="", description="x")]), "BOT_COMMAND_INVALID"),
    ]:
        with pytest.raises(TelegramBadRequest, match=words):
            await refused
    assert api.calls[-1].error == "Bad Request: BOT_COMMAND_INVALID"


async def test_the_bot_cannot_write_where_it_is_not(api: BotApiServer, bot: Bot) -> None:
    ann, group = api.private_chat(1), api.group()
    ann.set_bot_status("kicked")
    with pytest.raises(TelegramForbiddenError, match="bot was blocked by the user"):
        await bot.send_message(ann.id, "hello")
    ann.set_bot_status("member")
    await bot.send_message(ann.id, "hello again")

    supergroup = group.upgrade()
    with pytest.raises(TelegramMigrateToChat) as moved:
        await bot.send_message(group.id, "hello")
    assert moved.value.migrate_to_chat_id == supergroup.id


async def test_a_business_chat_is_not_the_customers_own_chat(api: BotApiServer, bot: Bot) -> None:
    owner = User(7, "Shop owner")
    own, business = api.private_chat(1), api.business_chat(1, connection_id="shop", owner=owner)
    sent = await bot.send_message(1, "from the shop", business_connection_id="shop")
    assert sent.from_user is not None
    assert sent.from_user.id == owner.id
    assert (await business.receive()).text == "from the shop"
    await bot.send_message(1, "from the bot")
    assert (await own.receive()).text == "from the bot"


@pytest.mark.parametrize("way", ["query", "form", "multipart", "json"])
async def test_parameters_arrive_in_any_way(api: BotApiServer, way: str) -> None:
    ann = api.private_chat(1)
    fields = {"chat_id": "1", "text": "[1]", "reply_markup": BUTTON.model_dump_json(exclude_none=True)}
    url = f"{api.url}/bot{api.token}/sendMessage"
    async with aiohttp.ClientSession() as http:
        if way == "query":
            response = await http.get(url, params=fields)
        elif way == "form":
            response = await http.post(url, data=fields)
        elif way == "multipart":
            with aiohttp.MultipartWriter("form-data") as form:
                for name, value in fields.items():
                    form.append(value).set_content_disposition("form-data", name=name)
            response = await http.post(url, data=form)
        else:
            response = await http.post(url, json=fields | {"chat_id": 1})
        assert (await response.json())["ok"] is True
    assert (await ann.receive()).json["reply_markup"] == json.loads(fields["reply_markup"])
    params = api.calls[0].params
    assert (params["chat_id"], params["text"]) == (1, "[1]")


@pytest.mark.parametrize(
    ("path", "body", "status", "description"),
    [
        ("bot42:playground/makePizza", b"", 404, "Not Found"),
        ("bot42:playground/GETME", b"", 200, None),
        ("bot1:stranger/getMe", b"", 401, "Unauthorized"),
        ("nonsense", b"", 404, "Not Found"),
        ("bot42:playground/sendMessage", b"{", 400, "Bad Request: can't parse request JSON object"),
        (
            "bot42:playground/getUpdates",
            b'{"offset": "x"}',
            400,
            "Bad Request: parameter offset must be an integer",
        ),
        (
            "bot42:playground/getUpdates",
            b'{"allowed_updates": "["}',
            400,
            "Bad Request: can't parse allowed_updates JSON object",
        ),
    ],
)
async def test_bare_requests(api: BotApiServer, path: str, body: bytes, status: int, description: str | None) -> None:
    async with (
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http,
        http.post(f"{api.url}/{path}", data=body) as response,
    ):
        answer = await response.json()
        assert response.status == status
        if description is not None:
            assert answer == {"ok": False, "error_code": status, "description": description}


async def test_a_parameter_of_null_is_none_at_all(api: BotApiServer) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{api.url}/bot{api.token}/getUpdates", json={"offset": None, "limit": 1}) as response,
    ):
        assert await response.json() == {"ok": True, "result": []}


def test_the_server_runs_inside_async_with_only() -> None:
    with pytest.raises(RuntimeError, match="inside `async with` only"):
        _ = BotApiServer().url
