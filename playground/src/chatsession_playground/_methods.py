"""The Bot API's methods: what each needs, does and answers."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from . import _updates as build
from ._account import BotAccount, BotMessage, Call, ChatRecord, now
from ._errors import ApiError, bad_request
from ._members import get_chat_member, restrict_chat_member
from ._updates import JsonObject
from ._webhook import Webhook

Method: TypeAlias = Callable[[BotAccount, JsonObject], Awaitable[object]]

CHAT_ACTIONS = frozenset(
    [
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    ]
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_POLL = 50
LONGEST_TEXT = 4096
QUERY_IS_OLD = "query is too old and response timeout expired or query ID is invalid"


async def perform(account: BotAccount, method: str, params: JsonObject) -> object:
    """Do what a bot asks for, and note that it asked.

    Args:
        account: the bot.
        method: the method's name; upper and lower case are one.
        params: decoded parameters.

    Returns:
        The `result` of the answer.

    Raises:
        ApiError: no such method, or a wrong parameter.
    """
    if method.lower() == "getupdates":
        return await get_updates(account, params)  # a poll is not news: it isn't noted
    name, function = _METHODS.get(method.lower(), (method, None))
    try:
        if function is None:
            raise ApiError(404, "Not Found")
        account.check_refusals(name)
        result = await function(account, params)
    except ApiError as error:
        account.record(Call(name, params, error=error.description))
        raise
    account.record(Call(name, params, result))
    return result


async def get_updates(account: BotAccount, params: JsonObject) -> object:
    limit = cast("int", params.get("limit", 100))
    updates = await account.next_updates(
        offset=cast("int", params.get("offset", 0)),
        limit=limit if 1 <= limit <= 100 else 100,
        timeout=min(cast("int", params.get("timeout", 0)), LONGEST_POLL),
        allowed_updates=_allowed_updates(params),
    )
    return [update.json() for update in updates]


async def get_me(account: BotAccount, _params: JsonObject) -> object:
    abilities = {
        "can_join_groups": True,
        "can_read_all_group_messages": True,
        "supports_inline_queries": True,
        "can_connect_to_business": True,
        "has_main_web_app": False,
    }
    return account.user.json() | abilities


async def set_webhook(account: BotAccount, params: JsonObject) -> object:
    url = str(params.get("url", ""))
    if not url:
        return await delete_webhook(account, params)
    if not url.startswith(("http://", "https://")):
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if urlsplit(url).hostname not in LOOPBACK:
        raise bad_request("bad webhook: the playground delivers to this machine only, as to http://127.0.0.1:8080/")
    if params.get("drop_pending_updates"):
        account.queue.clear()
    account.allow(_allowed_updates(params))
    await account.set_webhook(
        Webhook(
            url,
            perform=lambda method, answer: perform(account, method, answer),
            secret_token=str(params.get("secret_token", "")),
            max_connections=cast("int", params.get("max_connections", 40)),
        )
    )
    return True


async def delete_webhook(account: BotAccount, params: JsonObject) -> object:
    await account.set_webhook(None)
    if params.get("drop_pending_updates"):
        account.queue.clear()
    return True


async def get_webhook_info(account: BotAccount, _params: JsonObject) -> object:
    info: JsonObject = {
        "url": "",
        "has_custom_certificate": False,
        "pending_update_count": len(account.queue),
    }
    if account.allowed_updates is not None:
        info["allowed_updates"] = sorted(account.allowed_updates)
    if (webhook := account.webhook) is not None:
        info |= {"url": webhook.url, "max_connections": webhook.max_connections, "ip_address": "127.0.0.1"}
        if webhook.last_error:
            info |= {"last_error_date": webhook.last_error_date, "last_error_message": webhook.last_error}
    return info


async def send_message(account: BotAccount, params: JsonObject) -> object:
    chat = account.chat(params.get("chat_id"), cast("str | None", params.get("business_connection_id")))
    content: JsonObject = build.text(_text(params))
    sender = None if chat.kind == "channel" else account.user
    if chat.business is not None:
        sender = chat.business.owner
        content |= {
            "business_connection_id": chat.business.id,
            "sender_business_bot": account.user.json(),
        }
    if thread_id := params.get("message_thread_id"):
        content |= {"message_thread_id": thread_id, "is_topic_message": True}
    reply = cast("JsonObject", params.get("reply_parameters") or {})
    replied_id = reply.get("message_id") or params.get("reply_to_message_id")
    if replied_id is not None:
        if cast("int", replied_id) in chat.messages:
            content["reply_to_message"] = chat.messages[cast("int", replied_id)]
        elif not (reply.get("allow_sending_without_reply") or params.get("allow_sending_without_reply")):
            raise bad_request("message to be replied not found")
    content |= _inline_keyboard(params)
    message_id = next(chat.message_ids)
    message = build.message(message_id, now(), chat.info, sender, **content)
    chat.messages[message_id] = message
    chat.sent_by_bot.add(message_id)
    chat.from_bot.put(BotMessage(message_id, str(message["text"]), message))
    return message


async def edit_message_text(account: BotAccount, params: JsonObject) -> object:
    text = _text(params)
    if params.get("inline_message_id"):
        return True
    chat, message = _message(account, params, "edit")
    if message["message_id"] not in chat.sent_by_bot:
        raise bad_request("message can't be edited")
    return _edited(chat, message, build.text(text) | _inline_keyboard(params), "text", "entities", "reply_markup")


async def edit_message_reply_markup(account: BotAccount, params: JsonObject) -> object:
    if params.get("inline_message_id"):
        return True
    chat, message = _message(account, params, "edit")
    if message["message_id"] not in chat.sent_by_bot:
        raise bad_request("message can't be edited")
    return _edited(chat, message, _inline_keyboard(params), "reply_markup")


async def delete_message(account: BotAccount, params: JsonObject) -> object:
    chat, message = _message(account, params, "delete")
    del chat.messages[cast("int", message["message_id"])]
    return True


async def set_message_reaction(account: BotAccount, params: JsonObject) -> object:
    _message(account, params, "react")
    return True


async def answer_callback_query(account: BotAccount, params: JsonObject) -> object:
    _close_query(account, params.get("callback_query_id"))
    return True


async def answer_inline_query(account: BotAccount, params: JsonObject) -> object:
    _close_query(account, params.get("inline_query_id"))
    return True


async def send_chat_action(account: BotAccount, params: JsonObject) -> object:
    account.chat(params.get("chat_id"), cast("str | None", params.get("business_connection_id")))
    if params.get("action") not in CHAT_ACTIONS:
        raise bad_request("wrong parameter action in request")
    return True


async def set_my_commands(_account: BotAccount, params: JsonObject) -> object:
    commands = params.get("commands")
    if not isinstance(commands, list):
        raise bad_request("can't parse commands list: expected an Array of BotCommand")
    for command in cast("list[JsonObject]", commands):
        if not command.get("command"):
            raise bad_request("BOT_COMMAND_INVALID")
        if not command.get("description"):
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    return True


async def get_chat(account: BotAccount, params: JsonObject) -> object:
    return build.chat_full_info(account.chat(params.get("chat_id")).info)


async def log_out(_account: BotAccount, _params: JsonObject) -> object:
    return True


def _allowed_updates(params: JsonObject) -> list[str] | None:
    allowed = params.get("allowed_updates")
    if allowed is not None and not isinstance(allowed, list):
        raise bad_request("can't parse allowed_updates: expected an Array of String")
    return cast("list[str] | None", allowed)


def _text(params: JsonObject) -> str:
    text = str(params.get("text", "")).strip()
    if not text:
        raise bad_request("message text is empty")
    if build.utf16_length(text) > LONGEST_TEXT:
        raise bad_request("message is too long")
    return text


def _inline_keyboard(params: JsonObject) -> JsonObject:
    # Only inline keyboards belong to the message; the others are an order to the user's application.
    markup = cast("JsonObject", params.get("reply_markup") or {})
    return {"reply_markup": markup} if "inline_keyboard" in markup else {}


def _edited(chat: ChatRecord, message: JsonObject, content: JsonObject, *fields: str) -> JsonObject:
    """Put `content` in place of these fields of a message."""
    if all(message.get(field) == content.get(field) for field in fields):
        raise bad_request(
            "message is not modified: specified new message content and reply markup are exactly the same "
            "as a current content and reply markup of the message"
        )
    kept = {field: value for field, value in message.items() if field not in fields}
    edited = kept | content | {"edit_date": now()}
    chat.messages[cast("int", message["message_id"])] = edited
    return edited


def _message(account: BotAccount, params: JsonObject, purpose: str) -> tuple[ChatRecord, JsonObject]:
    chat = account.chat(params.get("chat_id"), cast("str | None", params.get("business_connection_id")))
    message_id = params.get("message_id")
    if message_id is None:
        raise bad_request("message identifier is not specified")
    message = chat.messages.get(cast("int", message_id))
    if message is None:
        raise bad_request(f"message to {purpose} not found")
    return chat, message


def _close_query(account: BotAccount, query_id: object) -> None:
    if query_id not in account.open_queries:
        raise bad_request(QUERY_IS_OLD)
    account.open_queries.discard(cast("str", query_id))


_METHODS: dict[str, tuple[str, Method]] = {
    name.lower(): (name, function)
    for name, function in {
        "getMe": get_me,
        "setWebhook": set_webhook,
        "deleteWebhook": delete_webhook,
        "getWebhookInfo": get_webhook_info,
        "sendMessage": send_message,
        "editMessageText": edit_message_text,
        "editMessageReplyMarkup": edit_message_reply_markup,
        "deleteMessage": delete_message,
        "setMessageReaction": set_message_reaction,
        "answerCallbackQuery": answer_callback_query,
        "answerInlineQuery": answer_inline_query,
        "sendChatAction": send_chat_action,
        "setMyCommands": set_my_commands,
        "getChat": get_chat,
        "getChatMember": get_chat_member,
        "restrictChatMember": restrict_chat_member,
        "logOut": log_out,
        "close": log_out,
    }.items()
}
