"""The members of a chat, as the Bot API tells of them: what they are there, and what they may do."""

from typing import cast

from . import _updates as build
from ._account import BotAccount, ChatRecord
from ._errors import bad_request
from ._updates import JsonObject

_PERMISSIONS = (
    *("can_send_messages", "can_send_audios", "can_send_documents", "can_send_photos", "can_send_videos"),
    *("can_send_video_notes", "can_send_voice_notes", "can_send_polls", "can_send_other_messages"),
    *("can_add_web_page_previews", "can_react_to_messages", "can_edit_tag", "can_change_info", "can_invite_users"),
    *("can_pin_messages", "can_manage_topics"),
)


async def get_chat_member(account: BotAccount, params: JsonObject) -> object:
    return _member(account, account.chat(params.get("chat_id")), params.get("user_id"))


async def restrict_chat_member(account: BotAccount, params: JsonObject) -> object:
    chat = account.chat(params.get("chat_id"))
    if chat.kind != "supergroup":
        raise bad_request("method is available only for supergroups")
    member = _member(account, chat, params.get("user_id"))
    if member["status"] in ("creator", "administrator"):
        raise bad_request("user is an administrator of the chat")
    permissions = params.get("permissions")
    if not isinstance(permissions, dict):
        raise bad_request("can't parse permissions: expected an Object")
    allowed = {name: cast("JsonObject", permissions).get(name) is True for name in _PERMISSIONS}
    user = cast("JsonObject", member["user"])
    known: JsonObject = {"user": user, "status": "member"}
    if not all(allowed.values()):
        ends = {"until_date": params.get("until_date", 0)}
        known = {"user": user, "status": "restricted", "is_member": True, **allowed, **ends}
    chat.members[cast("int", user["id"])] = known
    return True


def _member(account: BotAccount, chat: ChatRecord, user_id: object) -> JsonObject:
    if user_id == account.user.id:
        return build.chat_member(account.user, chat.bot_status)
    if isinstance(user_id, int) and user_id in chat.members:
        return chat.members[user_id]
    for message in chat.messages.values():  # who writes is a member
        writer = cast("JsonObject", message.get("from") or {})
        if writer.get("id") == user_id:
            return {"user": writer, "status": "member"}
    raise bad_request("user not found")
