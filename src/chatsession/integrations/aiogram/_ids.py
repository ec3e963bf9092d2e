"""Where an update of aiogram comes from."""

from __future__ import annotations

from typing import Any

from aiogram.dispatcher.middlewares.user_context import EventContext, UserContextMiddleware
from aiogram.types import Message, Update

from chatsession.integrations.aiogram._methods import AiogramMethods
from chatsession.integrations.update_context import UpdateContext


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
    return UpdateContext(
        chat_id=found.chat_id,
        user_id=found.user_id if message is None or message.sender_chat is None else _sender_id(message),
        thread_id=found.thread_id,
        business_connection_id=found.business_connection_id,
        bot_id=data["bot"].id,
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


def _sender_id(message: Message) -> int | None:
    """Of the chat on whose behalf a member wrote: all anonymous admins have the same user, and so have all channels."""
    if message.from_user is None or message.sender_chat is None:
        return None
    return message.sender_chat.id
