"""Whose update, or whose job, it is; with the same keys as in the other frameworks."""

from __future__ import annotations

from typing import Any

from telegram import Bot, Chat, ChatBoostSourcePremium, Message, Update, User
from telegram.ext import Job

from chatsession.actions import Methods
from chatsession.integrations.update_context import UpdateContext, direct_topic_id, sender_id


def ids_of_update(update: object, bot_id: int, methods: Methods | None = None) -> UpdateContext:
    """The ids of what python-telegram-bot was given to process, which may be anything."""
    if not isinstance(update, Update):
        return UpdateContext(chat_id=None, user_id=None, bot_id=bot_id, update=update, bot_methods=methods)
    chat, user, message = _chat(update), _user(update), _message(update)
    service, sent = update.message, update.message or update.edited_message
    sender_chat = sent and sent.sender_chat
    chat_id = None if chat is None else chat.id
    return UpdateContext(
        chat_id=chat_id,
        user_id=sender_id(user and user.id, sender_chat and sender_chat.id, chat_id),
        thread_id=_thread_id(message),
        business_connection_id=_business_connection_id(update, message),
        bot_id=bot_id,
        update=update,
        update_id=update.update_id,
        moved_from=None if service is None else service.migrate_from_chat_id,
        moved_to=None if service is None else service.migrate_to_chat_id,
        bot_methods=methods,
    )


def ids_of_job(job: Job[Any], bot_id: int) -> UpdateContext:
    """The ids that a job was given when it was scheduled."""
    return UpdateContext(chat_id=job.chat_id, user_id=job.user_id, bot_id=bot_id, update=job)


def bot_id_of(bot: Bot) -> int:
    """The bot's id, which it does not tell before it was initialized; 0 if its token has none."""
    number = bot.token.partition(":")[0]
    return int(number) if number.isdecimal() else 0


def _chat(update: Update) -> Chat | None:
    if update.poll_answer is not None:
        return update.poll_answer.voter_chat
    return update.effective_chat


def _user(update: Update) -> User | None:
    if update.channel_post is not None or update.edited_channel_post is not None:
        return None
    if update.chat_boost is not None:  # other boosts are gifts, whose user did nothing
        source = update.chat_boost.boost.source
        return source.user if isinstance(source, ChatBoostSourcePremium) else None
    return update.effective_user


def _message(update: Update) -> Message | None:
    query = update.callback_query
    if query is not None and not isinstance(query.message, Message):
        return None  # inaccessible, of which `effective_message` would warn
    return update.effective_message


def _thread_id(message: Message | None) -> int | None:
    if message is not None and message.is_topic_message:
        return message.message_thread_id
    return direct_topic_id(message)


def _business_connection_id(update: Update, message: Message | None) -> str | None:
    if update.deleted_business_messages is not None:
        return update.deleted_business_messages.business_connection_id
    if update.business_connection is not None:
        return update.business_connection.id
    return None if message is None else message.business_connection_id
