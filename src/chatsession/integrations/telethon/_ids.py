"""Where an event of Telethon comes from."""

from __future__ import annotations

from typing import Any

from telethon import events  # pyright: ignore[reportMissingTypeStubs]
from telethon.tl import types  # pyright: ignore[reportMissingTypeStubs]

from chatsession.actions import Methods
from chatsession.integrations.update_context import UpdateContext, sender_id

_tl: Any = types  # generated, and without annotations that pyright could follow
_NEW_OR_EDITED: Any = events.NewMessage.Event
_ALBUM: Any = events.Album.Event


def context_of(client: Any, event: Any, methods: Methods) -> UpdateContext:
    """The context of an event."""
    update = getattr(event, "original_update", None) or event  # raw handlers get the update itself
    message = _message(event, update)
    action: Any = getattr(message, "action", None)
    chat_id = _chat_id(update) if message is None else _peer_id(message.peer_id)
    return UpdateContext(
        chat_id=chat_id,
        user_id=sender_id(_user_id(update) if message is None else _sender_id(message), None, chat_id),
        thread_id=_thread_id(message, action),
        business_connection_id=getattr(update, "connection_id", None),
        bot_id=client._self_id or 0,
        update=event,
        moved_from=-action.chat_id if isinstance(action, _tl.MessageActionChannelMigrateFrom) else None,
        moved_to=_channel(action.channel_id) if isinstance(action, _tl.MessageActionChatMigrateTo) else None,
        bot_methods=methods,
    )


def _message(event: Any, update: Any) -> Any:
    if isinstance(event, _NEW_OR_EDITED):
        return event.message
    if isinstance(event, _ALBUM):
        return event.messages[0]
    message = getattr(update, "message", None)
    return message if hasattr(message, "peer_id") else None


def _sender_id(message: Any) -> int | None:
    """The id of the user who wrote, or of the chat on whose behalf a member wrote; posts of channels have no user."""
    if message.post:
        return None
    if message.sender_id is None and message.from_id is None:  # an anonymous admin, whose group stands for them
        return _peer_id(message.peer_id)
    return message.sender_id


def _chat_id(update: Any) -> int | None:
    if (peer := getattr(update, "peer", None)) is not None:
        return _peer_id(peer)
    if isinstance(update, _tl.UpdateBotStopped):
        return update.user_id
    if (channel_id := getattr(update, "channel_id", None)) is not None:
        return _channel(channel_id)
    group_id = getattr(update, "chat_id", None)
    return None if group_id is None else -group_id


def _peer_id(peer: Any) -> int:
    if isinstance(peer, _tl.PeerUser):
        return peer.user_id
    return -peer.chat_id if isinstance(peer, _tl.PeerChat) else _channel(peer.channel_id)


def _channel(channel_id: int) -> int:
    return -(10**12) - channel_id  # as the Bot API writes it


def _user_id(update: Any) -> int | None:
    actor: Any = getattr(update, "actor", None)
    if isinstance(actor, _tl.PeerUser):
        return actor.user_id
    return getattr(update, "actor_id", None) or getattr(update, "user_id", None)


def _thread_id(message: Any, action: Any) -> int | None:
    if isinstance(action, _tl.MessageActionTopicCreate):
        return message.id
    reply: Any = getattr(message, "reply_to", None)
    if not getattr(reply, "forum_topic", False):
        return None
    thread_id = reply.reply_to_top_id or reply.reply_to_msg_id
    return None if thread_id == 1 else thread_id  # the topic "General" has no id in the Bot API
