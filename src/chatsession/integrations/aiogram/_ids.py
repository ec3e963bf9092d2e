"""Where an update of aiogram comes from."""

from __future__ import annotations

from typing import Any

from aiogram.dispatcher.middlewares.user_context import EventContext, UserContextMiddleware
from aiogram.types import Update

from chatsession.integrations.aiogram._methods import AiogramMethods
from chatsession.integrations.update_context import UpdateContext, direct_topic_id, sender_id


def context_of(update: Update, data: dict[str, Any], methods: AiogramMethods) -> UpdateContext:
    """The context of an update.

    Args:
        update: as the dispatcher got it.
        data: what handlers get.
        methods: of the bot that received it.
    """
    if of_telegram := type(update) is Update:
        found: EventContext = data.get("event_context") or UserContextMiddleware.resolve_event_context(update)
    else:
        found = _context_of_library(update)
    message = update.message or update.edited_message
    sender_chat = message and message.sender_chat
    chat_id, thread_id = found.chat_id, found.thread_id
    if thread_id is None and chat_id is not None and chat_id < 0:  # no person's own chat has topics of others
        thread_id = direct_topic_id(message or (update.callback_query and update.callback_query.message))
    return UpdateContext(
        chat_id=chat_id,
        user_id=sender_id(found.user_id, sender_chat and sender_chat.id, chat_id),
        thread_id=thread_id,
        business_connection_id=found.business_connection_id,
        bot_id=methods.bot_id,
        update=update,
        update_id=update.update_id if of_telegram else None,
        moved_from=None if message is None else message.migrate_from_chat_id,
        moved_to=None if message is None else message.migrate_to_chat_id,
        bot_methods=methods,
    )


def _context_of_library(update: Update) -> EventContext:
    """Of an update that a library has made, such as aiogram-dialog's `bg()`: aiogram finds nothing in it."""
    event: Any = update.event
    return EventContext(
        chat=getattr(event, "chat", None),
        user=getattr(event, "from_user", None),
        thread_id=getattr(event, "thread_id", None),
        business_connection_id=getattr(event, "business_connection_id", None),
    )
