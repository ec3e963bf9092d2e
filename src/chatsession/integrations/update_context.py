"""Where an update comes from: what a `get_session_key` function is given, the same in every framework."""

from __future__ import annotations

from msgspec import Struct

from chatsession.actions import Methods


class UpdateContext(Struct, frozen=True, kw_only=True):
    """What a `get_session_key` function is given: where an update comes from, and the update itself.

    Attributes:
        chat_id: of the chat, if the update has one.
        user_id: of the user who caused it, if it has one.
        thread_id: of the topic in a forum.
        business_connection_id: of the business account on whose behalf the chat is led.
        bot_id: of the bot that got the update; 0 if it is not known yet.
        update: as the framework gives it.
        update_id: of the update, if it has one.
        moved_from: the group that this chat was, if the update says so (`migrate_from_chat_id`).
        moved_to: the supergroup that this chat has become, if the update says so (`migrate_to_chat_id`).
        bot_methods: what `after_commit` calls of that bot.
    """

    chat_id: int | None
    user_id: int | None
    thread_id: int | None
    business_connection_id: str | None
    bot_id: int
    update: object
    update_id: int | None = None
    moved_from: int | None = None
    moved_to: int | None = None
    bot_methods: Methods | None = None

    @property
    def moves_chat(self) -> bool:
        """Whether the update says that a group became a supergroup."""
        return self.moved_to is not None or self.moved_from is not None
