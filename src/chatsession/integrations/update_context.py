"""`UpdateContext`: the argument of a `get_session_key` function, the same in every framework."""

from __future__ import annotations

from msgspec import Struct

from chatsession.actions import Methods

_PLACEHOLDERS = (1087968824, 136817688)
"""The ids of `@GroupAnonymousBot`, for all anonymous admins, and of `@Channel_Bot`, for all channels."""


def sender_id(user_id: int | None, sender_chat_id: int | None, chat_id: int | None) -> int | None:
    """The id of the user who caused an update, or of the chat on whose behalf a member acts.

    Args:
        user_id: the user in the update.
        sender_chat_id: the sender's chat in the update.
        chat_id: the chat of the update, on whose behalf anonymous admins act.
    """
    if user_id is None or sender_chat_id is not None:
        return user_id and sender_chat_id
    return chat_id if user_id in _PLACEHOLDERS else user_id


def direct_topic_id(message: object) -> int | None:
    """The id of the topic of a message in a channel's direct messages, where each topic is one person's.

    Args:
        message: a `Message` of the Bot API, or what stands in its place.
    """
    return getattr(getattr(message, "direct_messages_topic", None), "topic_id", None)


class UpdateContext(Struct, frozen=True, kw_only=True):
    """Where an update comes from: the argument of a `get_session_key` function.

    Attributes:
        chat_id: the id of the chat, if the update has one.
        user_id: the id of the user who caused the update, if there is one.
        thread_id: the id of the topic, in a forum or in a channel's direct messages, if there is one.
        business_connection_id: the id of the business account's connection, if the chat is one of a business account.
        bot_id: the id of the bot that received the update; 0 if it is not known yet.
        update: the framework's update.
        update_id: the id of the update, if it has one.
        moved_from: the former id of this chat, if the update says so (`migrate_from_chat_id`).
        moved_to: the new id of this chat, if the update says so (`migrate_to_chat_id`).
        bot_methods: the bot's methods, for `after_commit`.
    """

    chat_id: int | None
    user_id: int | None
    bot_id: int
    update: object
    thread_id: int | None = None
    business_connection_id: str | None = None
    update_id: int | None = None
    moved_from: int | None = None
    moved_to: int | None = None
    bot_methods: Methods | None = None

    @property
    def moves_chat(self) -> bool:
        """Whether a group became a supergroup."""
        return self.moved_to is not None or self.moved_from is not None
