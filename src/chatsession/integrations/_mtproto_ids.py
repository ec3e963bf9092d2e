"""Where an update of MTProto comes from, with the ids of the Bot API.

Telethon and Pyrogram generate their classes from the same schema, so that classes and fields have the same names.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chatsession.integrations.update_context import sender_id

_PRIVATE = ("UpdateBotStopped", "UpdateUserTyping", "UpdateShortMessage")
"""Updates of a private chat that name it by its user only."""
_TYPING = ("UpdateUserTyping", "UpdateChannelUserTyping")
_GENERAL = 1
"""The id of the topic "General", which has none in the Bot API."""


class Origin(NamedTuple):
    """The ids of an update."""

    chat_id: int | None
    user_id: int | None
    thread_id: int | None
    business_connection_id: str | None


def origin_of(update: Any, message: Any, own_id: int) -> Origin:
    """The ids of an update.

    Args:
        update: as the server sent it.
        message: what `message_of` gives, or the framework's object for this message.
        own_id: the id of the account that received it.
    """
    if message is None:
        chat_id, user_id = _chat_id(update), _user_id(update)
    else:
        chat_id, user_id = peer_id(message.peer_id), _author_id(update, message, own_id)
    return Origin(
        chat_id,
        sender_id(user_id, None, chat_id),
        _typed_in(update) if message is None else _thread_id(message),
        getattr(getattr(update, "connection", update), "connection_id", None),
    )


def message_of(update: Any) -> Any:
    """The message that an update brings, or `None`."""
    message = getattr(update, "message", None)
    return None if getattr(message, "peer_id", None) is None else message


def peer_id(peer: Any) -> int | None:
    """The id of a user or chat; `None` if it is neither."""
    peer = getattr(peer, "peer", peer)  # some updates wrap it
    user_id = getattr(peer, "user_id", None)
    return _group_id(peer) if user_id is None else user_id


def channel_id(number: int) -> int:
    """The id of a channel or supergroup."""
    return -(10**12) - number


def not_general(thread_id: int | None) -> int | None:
    """The id of a topic."""
    return None if thread_id == _GENERAL else thread_id


def _group_id(holder: Any) -> int | None:
    if (number := getattr(holder, "channel_id", None)) is not None:
        return channel_id(number)
    number = getattr(holder, "chat_id", None)
    return None if number is None else -number


def _chat_id(update: Any) -> int | None:
    if _kind(update) in _PRIVATE:
        return update.user_id
    if (peer := getattr(update, "peer", None)) is None:
        return _group_id(update)
    return _group_id(peer) if _kind(update) == "UpdateMessagePollVote" else peer_id(peer)


def _user_id(update: Any) -> int | None:
    if _kind(update) == "UpdateMessagePollVote":
        return getattr(update.peer, "user_id", None)
    if (boost := getattr(update, "boost", None)) is not None:  # the user of a gift is the one who got it
        return None if boost.gift or boost.giveaway else boost.user_id
    for name in ("actor", "from_id"):
        if (actor := getattr(update, name, None)) is not None:
            return actor if isinstance(actor, int) else getattr(actor, "user_id", None)
    holder = getattr(update, "connection", update)
    return getattr(holder, "actor_id", None) or getattr(holder, "user_id", None)


def _author_id(update: Any, message: Any, own_id: int) -> int | None:
    """The id of the user who wrote, or of the chat on whose behalf a member wrote; posts of channels have no user."""
    if (user_id := getattr(update, "user_id", None)) is not None:
        return user_id  # who pressed a button of the message
    if message.post:
        return None
    if message.from_id is None and message.out and hasattr(message.peer_id, "user_id"):
        return own_id
    return peer_id(message.from_id or message.peer_id)  # without an author: of a private chat, or an anonymous admin


def _thread_id(message: Any) -> int | None:
    if _kind(getattr(message, "action", None)) == "MessageActionTopicCreate":
        return message.id
    if hasattr(message.peer_id, "channel_id") and (topic := getattr(message, "saved_peer_id", None)) is not None:
        return peer_id(topic)  # of a channel's direct messages
    reply: Any = getattr(message, "reply_to", None)
    if not getattr(reply, "forum_topic", False):
        return None
    return not_general(reply.reply_to_top_id or reply.reply_to_msg_id)


def _typed_in(update: Any) -> int | None:
    if _kind(update) not in _TYPING:
        return None
    return not_general(getattr(update, "top_msg_id", None))  # which older versions do not have in private chats


def _kind(thing: object) -> str:
    return type(thing).__name__
