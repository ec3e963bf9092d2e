"""Where an event of Telethon comes from."""

from __future__ import annotations

from typing import Any

from telethon import events  # pyright: ignore[reportMissingTypeStubs]
from telethon.tl import types  # pyright: ignore[reportMissingTypeStubs]

from chatsession.actions import Methods
from chatsession.integrations._mtproto_ids import channel_id, message_of, origin_of
from chatsession.integrations.update_context import UpdateContext

_tl: Any = types  # generated, and without annotations that pyright could follow
_NEW_OR_EDITED: Any = events.NewMessage.Event
_ALBUM: Any = events.Album.Event


def context_of(client: Any, event: Any, methods: Methods) -> UpdateContext:
    """The context of an event."""
    update = getattr(event, "original_update", None) or event  # raw handlers get the update itself
    message = _message(event, update)
    action: Any = getattr(message, "action", None)
    bot_id: int = client._self_id or 0
    origin = origin_of(update, message, bot_id)
    return UpdateContext(
        chat_id=origin.chat_id,
        user_id=origin.user_id,
        thread_id=origin.thread_id,
        business_connection_id=origin.business_connection_id,
        bot_id=bot_id,
        update=event,
        moved_from=-action.chat_id if isinstance(action, _tl.MessageActionChannelMigrateFrom) else None,
        moved_to=channel_id(action.channel_id) if isinstance(action, _tl.MessageActionChatMigrateTo) else None,
        bot_methods=methods,
    )


def _message(event: Any, update: Any) -> Any:
    if isinstance(event, _NEW_OR_EDITED):
        return event.message
    return event.messages[0] if isinstance(event, _ALBUM) else message_of(update)
