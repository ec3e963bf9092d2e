"""The Bot API's objects as JSON: pure functions, one per kind of update.

Names, and which fields are always there, follow https://core.telegram.org/bots/api (version 9 and later).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

JsonObject: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class User:
    """A person, or with `is_bot` a bot.

    Args:
        id: the user id, which is also the id of the private chat with that user.
        name: the first name.
        username: without the `@`; may be empty.
        is_bot: whether it is a bot.
    """

    id: int
    name: str
    username: str = ""
    is_bot: bool = False

    def json(self) -> JsonObject:
        """The Bot API's `User`."""
        user: JsonObject = {"id": self.id, "is_bot": self.is_bot, "first_name": self.name}
        if self.username:
            user["username"] = self.username
        if not self.is_bot:
            user["language_code"] = "en"
        return user


def private_chat(user: User) -> JsonObject:
    chat: JsonObject = {"id": user.id, "type": "private", "first_name": user.name}
    if user.username:
        chat["username"] = user.username
    return chat


def titled_chat(chat_id: int, kind: str, title: str, *, is_forum: bool = False) -> JsonObject:
    """A group, a supergroup or a channel."""
    chat: JsonObject = {"id": chat_id, "type": kind, "title": title}
    if kind == "group":
        chat["all_members_are_administrators"] = True
    if is_forum:
        chat["is_forum"] = True
    return chat


def chat_full_info(chat: JsonObject) -> JsonObject:
    """What `getChat` tells about a chat."""
    gifts = (
        "unlimited_gifts",
        "limited_gifts",
        "unique_gifts",
        "premium_subscription",
        "gifts_from_channels",
    )
    return chat | {
        "accent_color_id": 0,
        "max_reaction_count": 11,
        "accepted_gift_types": dict.fromkeys(gifts, False),
    }


def message(message_id: int, date: int, chat: JsonObject, sender: User | None, **content: object) -> JsonObject:
    """A message of any content; `sender` is `None` for the posts of a channel."""
    head: JsonObject = {"message_id": message_id}
    if sender is not None:
        head["from"] = sender.json()
    return head | {"chat": chat, "date": date} | content


def text(words: str) -> JsonObject:
    """The fields of a text; commands are marked as Telegram marks them."""
    content: JsonObject = {"text": words}
    if words.startswith("/") and len(words) > 1:
        command = words.split(maxsplit=1)[0]
        content["entities"] = [{"type": "bot_command", "offset": 0, "length": utf16_length(command)}]
    return content


def utf16_length(words: str) -> int:
    """Length as Telegram counts it, in UTF-16 code units."""
    return len(words.encode("utf-16-le")) // 2


def callback_query(
    query_id: str,
    user: User,
    chat_instance: str,
    data: str,
    *,
    pressed_on: JsonObject | None = None,
    inline_message_id: str | None = None,
) -> JsonObject:
    """A button pressed under a message of the bot, or under one of inline mode (which has no chat)."""
    query: JsonObject = {"id": query_id, "from": user.json()}
    if pressed_on is not None:
        query["message"] = pressed_on
    if inline_message_id is not None:
        query["inline_message_id"] = inline_message_id
    return query | {"chat_instance": chat_instance, "data": data}


def inline_query(query_id: str, user: User, query: str, offset: str) -> JsonObject:
    return {"id": query_id, "from": user.json(), "chat_type": "sender", "query": query, "offset": offset}


def chosen_inline_result(user: User, result_id: str, query: str, inline_message_id: str) -> JsonObject:
    return {
        "result_id": result_id,
        "from": user.json(),
        "query": query,
        "inline_message_id": inline_message_id,
    }


def poll(poll_id: str, question: str, votes: dict[str, int]) -> JsonObject:
    """The state of a poll; `votes` are the options with their number of voters."""
    return {
        "id": poll_id,
        "question": question,
        "options": [
            {"persistent_id": str(number), "text": option, "voter_count": voters}
            for number, (option, voters) in enumerate(votes.items())
        ],
        "total_voter_count": sum(votes.values()),
        "is_closed": False,
        "is_anonymous": True,
        "type": "regular",
        "allows_multiple_answers": False,
        "allows_revoting": True,
        "members_only": False,
    }


def poll_answer(poll_id: str, user: User, option_ids: Sequence[int]) -> JsonObject:
    return {
        "poll_id": poll_id,
        "user": user.json(),
        "option_ids": list(option_ids),
        "option_persistent_ids": [str(option) for option in option_ids],
    }


def message_reaction(
    chat: JsonObject, message_id: int, date: int, user: User, old: Sequence[str], new: Sequence[str]
) -> JsonObject:
    return {
        "chat": chat,
        "message_id": message_id,
        "user": user.json(),
        "date": date,
        "old_reaction": [{"type": "emoji", "emoji": emoji} for emoji in old],
        "new_reaction": [{"type": "emoji", "emoji": emoji} for emoji in new],
    }


def chat_member(user: User, status: str) -> JsonObject:
    """A `ChatMember`; an administrator has every right."""
    member: JsonObject = {"user": user.json(), "status": status}
    if status == "kicked":
        member["until_date"] = 0
    elif status == "creator":
        member["is_anonymous"] = False
    elif status == "administrator":
        rights = (
            "can_be_edited can_manage_chat can_delete_messages can_manage_video_chats can_restrict_members "
            "can_promote_members can_change_info can_invite_users can_post_stories can_edit_stories "
            "can_delete_stories can_send_welcome_messages"
        )
        member |= {"is_anonymous": False} | dict.fromkeys(rights.split(), True)
    return member


def chat_member_updated(
    chat: JsonObject, by: User, date: int, member: User, old_status: str, new_status: str
) -> JsonObject:
    return {
        "chat": chat,
        "from": by.json(),
        "date": date,
        "old_chat_member": chat_member(member, old_status),
        "new_chat_member": chat_member(member, new_status),
    }


def business_connection(connection_id: str, owner: User, date: int, *, is_enabled: bool) -> JsonObject:
    return {
        "id": connection_id,
        "user": owner.json(),
        "user_chat_id": owner.id,
        "date": date,
        "rights": {"can_reply": True, "can_read_messages": True},
        "can_reply": True,
        "is_enabled": is_enabled,
    }


def deleted_business_messages(connection_id: str, chat: JsonObject, message_ids: Sequence[int]) -> JsonObject:
    return {"business_connection_id": connection_id, "chat": chat, "message_ids": list(message_ids)}


def lane(payload: JsonObject) -> object:
    """What Telegram keeps in order when it delivers to a webhook: the chat, or else the user.

    Args:
        payload: the update's object, such as a `Message` or a `CallbackQuery`.

    Returns:
        Something hashable; two updates with equal lanes are delivered one after the other.
    """
    holders = [payload, cast("JsonObject", payload.get("message") or {})]
    for field in ("chat", "from", "user"):
        for holder in holders:
            if field in holder:
                return cast("JsonObject", holder[field])["id"]
    return payload.get("id")
