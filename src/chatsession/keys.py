"""Which session an update belongs to: functions `(ctx) -> key`.

They read `chat_id`, `user_id`, `thread_id` and `business_connection_id` of the context, or `chat.id` and
`from_user.id` if it has those instead. `None` means that the update has no session: its handlers run, and using the
session in them is an error.

A person's chat with a business account is not that person's chat with the bot: its keys begin with the id of the
business connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from chatsession.errors import SessionError, SessionKeyError, shown

Key: TypeAlias = str | int | None

GetSessionKey: TypeAlias = Callable[[Any], "Key | Awaitable[Key]"]
"""A function from the context of any framework (hence `Any`) to the key."""


def per_chat(ctx: object) -> str | None:
    """One session for each chat; the default.

    Examples:
        >>> from types import SimpleNamespace
        >>> per_chat(SimpleNamespace(chat_id=-100123))
        '-100123'
    """
    chat = _id(ctx, "chat_id", "chat")
    if chat is None or getattr(ctx, "business_connection_id", None) is None:
        return None if chat is None else str(chat)
    return _joined(ctx, chat)


def per_user(ctx: object) -> str | None:
    """One session for each user, in all chats together.

    Examples:
        >>> from types import SimpleNamespace
        >>> per_user(SimpleNamespace(user_id=7, chat_id=-100123))
        '7'
    """
    user = _id(ctx, "user_id", "from_user")
    return None if user is None else str(user)


def per_user_in_chat(ctx: object) -> str | None:
    """One session for each user in each chat.

    Examples:
        >>> from types import SimpleNamespace
        >>> per_user_in_chat(SimpleNamespace(user_id=7, chat_id=-100123))
        '-100123:7'
    """
    return _joined(ctx, _id(ctx, "chat_id", "chat"), _id(ctx, "user_id", "from_user"))


def per_topic(ctx: object) -> str | None:
    """One session for each topic of a forum or of a channel's direct messages, and for each chat without topics.

    Examples:
        >>> from types import SimpleNamespace
        >>> per_topic(SimpleNamespace(chat_id=-100123, thread_id=5))
        '-100123:5'
    """
    chat = _id(ctx, "chat_id", "chat")
    thread = getattr(ctx, "thread_id", None)
    return _joined(ctx, chat) if thread is None else _joined(ctx, chat, thread)


def checked(key: object, prefix: str, source: object) -> str | None:
    """The key as the storage gets it, or `None`.

    Args:
        key: from a key function or a caller.
        prefix: put before the key.
        source: where the key comes from, for the message.

    Raises:
        SessionKeyError: the key is not a `str` or `int`, is empty, or is not valid Unicode.
    """
    if type(key) is str and key and (full := prefix + key).isascii():
        return full  # nearly all keys
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise SessionKeyError(f"{_named(source)} gave a {type(key).__name__}; a key is a str, an int or None")
    try:
        text = str(key)
    except ValueError:  # it has more digits than Python converts
        raise SessionKeyError(f"{_named(source)} gave an int of too many digits to be a key") from None
    if not text:
        raise SessionKeyError(f"{_named(source)} gave an empty key; return None where there is no session")
    full = prefix + text
    if not full.isascii():
        try:
            full.encode()
        except UnicodeEncodeError:
            raise SessionKeyError(
                f"{_named(source)} gave {shown(text)}, which is not valid Unicode and cannot be stored"
            ) from None
    return full


def update_id_of(ctx: object) -> int | str | None:
    """The id of a context's update, with the bot's id if that is known; `None`: the update has none.

    Raises:
        SessionError: the context has no such attribute.
    """
    holder: Any = ctx
    if not hasattr(holder, "update_id"):
        holder = getattr(ctx, "update", None)
        if not hasattr(holder, "update_id"):
            raise SessionError(
                f"deduplicate needs to know updates by their id, but the context {type(ctx).__name__} has neither "
                "update_id nor update.update_id; give it one of them (None: this update cannot come twice)"
            )
    update_id: int | None = holder.update_id
    bot_id: int | None = getattr(ctx, "bot_id", None)
    return update_id if update_id is None or bot_id is None else f"{bot_id}:{update_id}"


def missing(get_session_key: object) -> SessionKeyError:
    """The error of an update without a session."""
    if get_session_key in (per_chat, per_user, per_user_in_chat, per_topic):
        needs = {per_user: "user", per_user_in_chat: "chat and user"}.get(get_session_key, "chat")  # type: ignore[call-overload]
        return SessionKeyError(
            f"this update has no {needs}, so there is no session for it; choose another get_session_key, or do not "
            "touch the session for updates of this kind"
        )
    return SessionKeyError(f"{_named(get_session_key)} returned None for this update, so there is no session for it")


def _named(source: object) -> str:
    return f"get_session_key ({name})" if (name := getattr(source, "__qualname__", "")) else "the caller"


def _id(ctx: object, attribute: str, owner: str) -> int | str | None:
    try:
        return getattr(ctx, attribute)  # type: ignore[no-any-return]
    except AttributeError:
        pass
    if not hasattr(ctx, owner):
        raise SessionKeyError(
            f"the context {type(ctx).__name__} has neither {attribute!r} nor {owner!r}; give it one of them, or "
            "give the sessions a get_session_key of your own"
        )
    return getattr(getattr(ctx, owner), "id", None)


def _joined(ctx: object, *ids: int | str | None) -> str | None:
    if None in ids:
        return None
    business = getattr(ctx, "business_connection_id", None)
    return ":".join(map(str, ids if business is None else (business, *ids)))
