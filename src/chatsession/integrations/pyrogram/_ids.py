"""Where an update of Pyrogram comes from."""

from __future__ import annotations

from typing import Any, cast

import pyrogram
from pyrogram import enums, types, utils

from chatsession.actions import Methods
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
    if isinstance(update, types.Poll):
        return _id(update.voter) if isinstance(update.voter, types.User) else None
    if isinstance(update, types.ChatBoostUpdated):
        return _id(update.boost.from_user)
    if getattr(update, "sender_chat", None) is not None and update.chat.type is not enums.ChatType.CHANNEL:
        return _id(update.sender_chat)  # on whose behalf a member wrote
    return _id(getattr(update, "from_user", None) or getattr(update, "user", None))


def _thread_id(message: Any) -> int | None:
    if getattr(message, "forum_topic_created", None) is not None:
        return message.id
    return _not_general(getattr(message, "message_thread_id", None))


def _business_connection_id(message: Any) -> str | None:
    if isinstance(message, types.BusinessConnection):
        return message.id
    return getattr(message, "business_connection_id", None)


def _id(of: Any) -> int | None:
    return None if of is None else of.id


def _raw_context(bot_id: int, update: Any, methods: Methods) -> UpdateContext:
    """Of an update that Pyrogram gives as it came: to raw handlers, to handlers of errors."""
    message = getattr(update, "message", None)
    holder = update if message is None or isinstance(message, str) else message
    peer: Any = getattr(holder, "peer_id", None) or getattr(holder, "peer", None)
    sender: Any = getattr(holder, "from_id", None)
    user_id = sender.user_id if isinstance(sender, _tl.types.PeerUser) else getattr(update, "user_id", None)
    if peer is not None:
        chat_id = utils.get_peer_id(peer)
    elif (channel_id := getattr(update, "channel_id", None)) is not None:
        chat_id = utils.get_channel_id(channel_id)
    else:
        group_id = getattr(update, "chat_id", None)
        chat_id = None if group_id is None else -group_id
    if user_id is None and isinstance(holder, _tl.types.Message) and not holder.post:
        author: Any = sender or peer  # private chats and anonymous admins leave out who wrote
        user_id = utils.get_peer_id(author)
    return UpdateContext(
        chat_id=chat_id,
        user_id=sender_id(user_id, None, chat_id),
        thread_id=_raw_thread_id(holder),
        business_connection_id=getattr(update, "connection_id", None),
        bot_id=bot_id,
        update=update,
        bot_methods=methods,
    )


def _raw_thread_id(message: Any) -> int | None:
    if isinstance(getattr(message, "action", None), _tl.types.MessageActionTopicCreate):
        return message.id
    reply: Any = getattr(message, "reply_to", None)
    if not getattr(reply, "forum_topic", False):
        return None
    return _not_general(reply.reply_to_top_id or reply.reply_to_msg_id)


def _not_general(thread_id: int | None) -> int | None:
    """The topic "General" has an id here, but none in the Bot API."""
    return None if thread_id == 1 else thread_id
