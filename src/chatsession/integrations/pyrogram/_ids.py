"""Where an update of Pyrogram comes from."""

from __future__ import annotations

from typing import Any, cast

import pyrogram
from pyrogram import enums, types

from chatsession.actions import Methods
from chatsession.integrations._mtproto_ids import message_of, not_general, origin_of
from chatsession.integrations.update_context import UpdateContext, sender_id

_tl: Any = pyrogram.raw  # whose types pyright does not find


def context_of(client: Any, update: Any, methods: Methods) -> UpdateContext:
    """The context of an update."""
    bot_id = 0 if client.me is None else client.me.id
    if isinstance(update, _tl.core.TLObject):
        return _raw_context(bot_id, update, methods)
    if isinstance(update, list):  # of deleted messages, all of one chat
        update = cast("list[Any]", update)[0] if update else None
    message = update.message if isinstance(update, types.CallbackQuery) else update
    chat_id = _id(getattr(message, "chat", None))
    return UpdateContext(
        chat_id=chat_id,
        user_id=sender_id(_user_id(update), None, chat_id),
        thread_id=_thread_id(message),
        business_connection_id=_business_connection_id(message),
        bot_id=bot_id,
        update=update,
        moved_from=getattr(update, "migrate_from_chat_id", None),
        moved_to=getattr(update, "migrate_to_chat_id", None),
        bot_methods=methods,
    )


def _user_id(update: Any) -> int | None:
    if isinstance(update, types.User):  # whose status is another
        return update.id
    if isinstance(update, types.Poll):
        return _id(update.voter) if isinstance(update.voter, types.User) else None
    if isinstance(update, types.ChatBoostUpdated):  # the user of a gift is the one who got it
        return None if update.boost.is_gift or update.boost.is_giveaway else _id(update.boost.from_user)
    if getattr(update, "sender_chat", None) is not None and update.chat.type is not enums.ChatType.CHANNEL:
        return _id(update.sender_chat)  # on whose behalf a member wrote
    return _id(getattr(update, "from_user", None) or getattr(update, "user", None))


def _thread_id(message: Any) -> int | None:
    if getattr(message, "forum_topic_created", None) is not None:
        return message.id
    if (topic_id := getattr(message, "direct_messages_topic_id", None)) is not None:
        return topic_id
    return not_general(getattr(message, "message_thread_id", None))


def _business_connection_id(message: Any) -> str | None:
    if isinstance(message, types.BusinessConnection):
        return message.id
    return getattr(message, "business_connection_id", None)


def _id(of: Any) -> int | None:
    return None if of is None else of.id


def _raw_context(bot_id: int, update: Any, methods: Methods) -> UpdateContext:
    """Of an update that Pyrogram gives as it came: to raw handlers, to handlers of errors."""
    origin = origin_of(update, message_of(update), bot_id)
    return UpdateContext(
        chat_id=origin.chat_id,
        user_id=origin.user_id,
        thread_id=origin.thread_id,
        business_connection_id=origin.business_connection_id,
        bot_id=bot_id,
        update=update,
        bot_methods=methods,
    )
