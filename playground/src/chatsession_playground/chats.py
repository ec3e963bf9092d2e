"""Chats, as the people in them see them: they write, press and react, and get what the bot sends."""

from typing import Literal

from . import _updates as build
from ._account import BotAccount, BotMessage, ChatRecord, now
from ._queue import Update
from ._updates import JsonObject, User

MemberStatus = Literal["creator", "administrator", "member", "left", "kicked"]


class Chat:
    """A chat that the bot is in. Made by `BotApiServer.private_chat` and its siblings.

    What makes an update returns at once; the bot gets the update when it asks for it, or by its webhook.
    """

    def __init__(self, account: BotAccount, record: ChatRecord, user: User) -> None:
        self._account = account
        self._record = record
        self.user = user

    @property
    def id(self) -> int:
        """The chat id."""
        return self._record.id

    @property
    def info(self) -> JsonObject:
        """The Bot API's `Chat`."""
        return self._record.info

    def send(
        self,
        text: str,
        *,
        user: User | None = None,
        thread_id: int | None = None,
        reply_to: int | None = None,
    ) -> Update:
        """Write a message.

        Args:
            text: what is written; a leading `/command` is marked as one.
            user: who writes; by default the first user of this chat.
            thread_id: the topic it is written in.
            reply_to: id of the message that is answered.

        Returns:
            The update; its `message_id` is the id of the message.
        """
        content = build.text(text)
        if reply_to is not None:
            answered = content["reply_to_message"] = self._message(reply_to)
            if self._record.kind == "supergroup":
                # Also without topics, a supergroup numbers the thread of replies after its first message.
                content["message_thread_id"] = answered.get("message_thread_id", reply_to)
        if thread_id is not None:
            content |= {"message_thread_id": thread_id, "is_topic_message": True}
        return self._write(content, user)

    def edit(self, message: Update | int, text: str) -> Update:
        """Change the text of a message that was written with `send`.

        Args:
            message: its id, or the update that brought it.
            text: the new text.
        """
        message_id = message if isinstance(message, int) else message.message_id
        old = self._message(message_id)
        kept = {name: value for name, value in old.items() if name not in ("text", "entities")}
        self._record.messages[message_id] = edited = kept | build.text(text) | {"edit_date": now()}
        return self._account.inject(f"edited_{self._kind_of_message}", edited)

    def press(self, data: str, *, message: BotMessage | int | None = None, user: User | None = None) -> Update:
        """Press an inline button.

        Args:
            data: its `callback_data`.
            message: the message it is under; by default the last one that the bot sent here.
            user: who presses; by default the first user of this chat.
        """
        if message is None:
            message = max(self._record.sent_by_bot, default=0)
        pressed_on = self._message(message.id if isinstance(message, BotMessage) else message)
        query = build.callback_query(
            self._account.new_query_id(), user or self.user, str(self.id), data, pressed_on=pressed_on
        )
        return self._account.inject("callback_query", query)

    def react(self, message: BotMessage | Update | int, *emojis: str, user: User | None = None) -> Update:
        """Set the reactions to a message; without emojis, take them away.

        Args:
            message: the message, its update or its id.
            emojis: the reactions.
            user: who reacts; by default the first user of this chat.
        """
        user = user or self.user
        message_id = _message_id(message)
        old = self._record.reactions.get((message_id, user.id), [])
        self._record.reactions[message_id, user.id] = list(emojis)
        return self._account.inject(
            "message_reaction", build.message_reaction(self.info, message_id, now(), user, old, emojis)
        )

    def set_bot_status(self, status: MemberStatus, *, user: User | None = None) -> Update:
        """Let the bot in, make it an administrator, or throw it out (in a private chat: block it).

        Args:
            status: what the bot is from now on.
            user: who does it; by default the first user of this chat.
        """
        old, self._record.bot_status = self._record.bot_status, status
        by = user or self.user
        update = build.chat_member_updated(self.info, by, now(), self._account.user, old, status)
        return self._account.inject("my_chat_member", update)

    async def receive(self, *, timeout: float | None = 60) -> BotMessage:
        """Wait for the next message that the bot sends to this chat.

        Args:
            timeout: seconds to wait; `None` waits for ever.

        Returns:
            The oldest message that was not received yet. Edits are no messages: see `BotApiServer.next_call`.

        Raises:
            TimeoutError: none came in time; the message says what the bot did instead.
        """
        try:
            return await self._record.from_bot.take(timeout=timeout)
        except TimeoutError:
            raise TimeoutError(f"no message to chat {self.id} within {timeout} s; {self._account.summary()}") from None

    @property
    def _kind_of_message(self) -> str:
        return "message"

    def _message(self, message_id: int) -> JsonObject:
        try:
            return self._record.messages[message_id]
        except KeyError:
            raise ValueError(f"chat {self.id} has no message {message_id}") from None

    def _write(self, content: JsonObject, user: User | None = None, *, message_id: int | None = None) -> Update:
        sender = None if self._record.kind == "channel" else user or self.user
        message_id = next(self._record.message_ids) if message_id is None else message_id
        if self._record.business is not None:
            content |= {"business_connection_id": self._record.business.id}
        message = build.message(message_id, now(), self.info, sender, **content)
        self._record.messages[message_id] = message
        return self._account.inject(self._kind_of_message, message)


class PrivateChat(Chat):
    """A user's chat with the bot, or with a business that the bot answers for."""

    def delete(self, *messages: Update | BotMessage | int) -> Update:
        """Delete messages of a business chat (of other private chats' deletions, bots are told nothing)."""
        if self._record.business is None:
            raise ValueError("Telegram tells bots of deleted messages in business chats only")
        message_ids = [_message_id(message) for message in messages]
        for message_id in message_ids:
            self._record.messages.pop(message_id, None)
        deleted = build.deleted_business_messages(self._record.business.id, self.info, message_ids)
        return self._account.inject("deleted_business_messages", deleted)

    @property
    def _kind_of_message(self) -> str:
        return "message" if self._record.business is None else "business_message"


class _SharedChat(Chat):
    """A chat of several; the first user made it."""

    def __init__(self, account: BotAccount, record: ChatRecord, user: User) -> None:
        super().__init__(account, record, user)
        record.members.setdefault(user.id, build.chat_member(user, "creator"))

    def set_member_status(self, member: User, old: MemberStatus, new: MemberStatus) -> Update:
        """A member joins, leaves, is promoted or banned; the bot hears of it if it asks for `chat_member`.

        Args:
            member: who.
            old: the status until now.
            new: the status from now on.
        """
        self._record.members[member.id] = build.chat_member(member, new)
        update = build.chat_member_updated(self.info, self.user, now(), member, old, new)
        return self._account.inject("chat_member", update)


class Supergroup(_SharedChat):
    """A supergroup, with topics if it is a forum."""

    def __init__(self, account: BotAccount, record: ChatRecord, user: User) -> None:
        super().__init__(account, record, user)
        self.topics: dict[str, int] = {}

    def create_topic(self, name: str) -> int:
        """Start a topic; the bot sees the service message.

        Args:
            name: of the topic.

        Returns:
            Its `message_thread_id`, for `send`.
        """
        self.topics[name] = thread_id = next(self._record.message_ids)  # a topic is named by its first message
        content: JsonObject = {
            "message_thread_id": thread_id,
            "is_topic_message": True,
            "forum_topic_created": {"name": name, "icon_color": 7322096},
        }
        self._write(content, message_id=thread_id)
        return thread_id

    def announce_migration_from(self, group: "Group") -> Update:
        """Write the service message that says which group this was."""
        return self._write({"migrate_from_chat_id": group.id})


class Group(_SharedChat):
    """A basic group, which may become a supergroup."""

    def upgrade(self, supergroup_id: int | None = None) -> Supergroup:
        """Make it a supergroup without a word to the bot: messages to the old id are refused from now on.

        Args:
            supergroup_id: the new chat id; by default an unused one.

        Returns:
            The supergroup. `send` on the old group still works: late updates carry the old id.
        """
        new_id = next(self._account.supergroup_ids) if supergroup_id is None else supergroup_id
        info = build.titled_chat(new_id, "supergroup", str(self.info["title"]))
        self._record.migrated_to = new_id
        return Supergroup(self._account, self._account.add_chat(ChatRecord(info)), self.user)

    def announce_migration_to(self, supergroup: Supergroup) -> Update:
        """Write the service message that says what became of this group."""
        return self._write({"migrate_to_chat_id": supergroup.id})

    def migrate(self, *, to_first: bool = True) -> Supergroup:
        """Make it a supergroup, with the two service messages.

        Args:
            to_first: whether the old group's message (`migrate_to_chat_id`) comes before the new one's.
        """
        supergroup = self.upgrade()
        if to_first:
            self.announce_migration_to(supergroup)
        supergroup.announce_migration_from(self)
        if not to_first:
            self.announce_migration_to(supergroup)
        return supergroup


class Channel(Chat):
    """A channel; its posts have no sender."""

    @property
    def _kind_of_message(self) -> str:
        return "channel_post"


def _message_id(message: BotMessage | Update | int) -> int:
    if isinstance(message, int):
        return message
    return message.id if isinstance(message, BotMessage) else message.message_id
