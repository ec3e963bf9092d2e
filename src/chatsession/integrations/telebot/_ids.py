"""The ids of an update of pyTelegramBotAPI."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from telebot import types

from chatsession.actions import Methods
from chatsession.integrations.polling.delivery import PolledUpdate
from chatsession.integrations.update_context import UpdateContext, direct_topic_id, sender_id


def batches(updates: Iterable[PolledUpdate]) -> list[list[PolledUpdate]]:
    """Groups of updates of one kind. telebot sorts those that it gets at once by kind, and loses their order."""
    return [list(batch) for _, batch in groupby(updates, _kind)]


def _kind(polled: PolledUpdate) -> str | None:
    return next((name for name in polled.update if name != "update_id"), None)


def payloads(update: types.Update) -> list[object]:
    """The parts of an update that handlers get."""
    return [part for name, part in vars(update).items() if part is not None and name != "update_id"]


def context_of(bot: Any, payload: Any, update_id: int | None, methods: Methods | None) -> UpdateContext:
    """The context of an update, from the part that handlers get."""
    message = payload.message if isinstance(payload, types.CallbackQuery) else payload
    chat = getattr(message, "chat", None) or getattr(payload, "voter_chat", None)
    chat_id = None if chat is None else chat.id
    sender_chat = getattr(payload, "sender_chat", None)
    return UpdateContext(
        chat_id=chat_id,
        user_id=sender_id(_user_id(payload), sender_chat and sender_chat.id, chat_id),
        thread_id=_thread_id(message),
        business_connection_id=_business_connection_id(message),
        bot_id=bot.bot_id or 0,
        update=payload,
        update_id=update_id,
        moved_from=getattr(payload, "migrate_from_chat_id", None),
        moved_to=getattr(payload, "migrate_to_chat_id", None),
        bot_methods=methods,
    )


def chats_of_move(context: UpdateContext) -> tuple[int, int]:
    """The ids of a group and of the supergroup that it has become. For an update with `context.moves_chat`."""
    assert context.chat_id is not None
    return context.moved_from or context.chat_id, context.moved_to or context.chat_id


def _user_id(payload: Any) -> int | None:
    if isinstance(payload, types.ChatBoostUpdated):
        # For other sources, the user is the one who got a gift, not the one who boosts.
        source = payload.boost.source
        return source.user.id if isinstance(source, types.ChatBoostSourcePremium) else None
    user = getattr(payload, "from_user", None) or getattr(payload, "user", None)
    return None if user is None else user.id


def _thread_id(message: Any) -> int | None:
    if isinstance(message, types.InaccessibleMessage):
        return None
    if isinstance(message, types.Message) and not message.is_topic_message:
        return direct_topic_id(message)  # supergroups without topics number threads of replies, too
    return getattr(message, "message_thread_id", None)


def _business_connection_id(message: Any) -> str | None:
    if isinstance(message, types.BusinessConnection):
        return message.id
    return getattr(message, "business_connection_id", None)
