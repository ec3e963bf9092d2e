"""The people and chats of one bot, by which tests and demos send updates and see what the bot does."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus

from . import _updates as build
from ._account import BotAccount, BusinessConnection, Call, ChatRecord, now
from ._errors import ApiError
from ._queue import Update
from ._updates import User
from .chats import Channel, Group, PrivateChat, Supergroup

_ANYBODY = User(1001, "Ann")


class Audience:
    """The people and chats around one bot. `BotApiServer` is one, of its first bot, and `bot` makes more."""

    def __init__(self, account: BotAccount) -> None:
        self._account = account

    @property
    def token(self) -> str:
        """The bot's token."""
        return self._account.token

    def private_chat(self, user_id: int, name: str = "Ann", *, username: str = "") -> PrivateChat:
        """A user's chat with the bot.

        Args:
            user_id: the user id, which is the chat id too.
            name: the user's first name.
            username: without the `@`.
        """
        user = User(user_id, name, username)
        return PrivateChat(self._account, self._account.add_chat(ChatRecord(build.private_chat(user))), user)

    def group(self, chat_id: int | None = None, title: str = "Group", *, user: User = _ANYBODY) -> Group:
        """A basic group with the bot in it.

        Args:
            chat_id: a negative number; by default an unused one.
            title: of the group.
            user: who writes there, unless a message says otherwise.
        """
        info = build.titled_chat(next(self._account.group_ids) if chat_id is None else chat_id, "group", title)
        return Group(self._account, self._account.add_chat(ChatRecord(info)), user)

    def supergroup(
        self,
        chat_id: int | None = None,
        title: str = "Supergroup",
        *,
        topics: Iterable[str] = (),
        user: User = _ANYBODY,
    ) -> Supergroup:
        """A supergroup with the bot in it.

        Args:
            chat_id: a number below -1000000000000; by default an unused one.
            title: of the supergroup.
            topics: names of topics, which make it a forum; their ids are in `Supergroup.topics`.
            user: who writes there, unless a message says otherwise.
        """
        names = list(topics)
        new_id = next(self._account.supergroup_ids) if chat_id is None else chat_id
        info = build.titled_chat(new_id, "supergroup", title, is_forum=bool(names))
        supergroup = Supergroup(self._account, self._account.add_chat(ChatRecord(info)), user)
        for name in names:
            supergroup.create_topic(name)
        return supergroup

    def channel(self, chat_id: int | None = None, title: str = "Channel") -> Channel:
        """A channel with the bot among its administrators.

        Args:
            chat_id: a number below -1000000000000; by default an unused one.
            title: of the channel.
        """
        new_id = next(self._account.supergroup_ids) if chat_id is None else chat_id
        record = self._account.add_chat(ChatRecord(build.titled_chat(new_id, "channel", title)))
        return Channel(self._account, record, _ANYBODY)

    def business_chat(
        self, user_id: int, name: str = "Ann", *, connection_id: str = "business-1", owner: User = _ANYBODY
    ) -> PrivateChat:
        """A customer's chat with a business account which the bot answers for.

        Args:
            user_id: of the customer, and so the chat id.
            name: the customer's first name.
            connection_id: the `business_connection_id`.
            owner: whose account it is.
        """
        user = User(user_id, name)
        record = ChatRecord(build.private_chat(user), business=BusinessConnection(connection_id, owner))
        return PrivateChat(self._account, self._account.add_chat(record), user)

    def business_connection(self, owner: User, connection_id: str = "business-1", *, is_enabled: bool = True) -> Update:
        """Connect a business account to the bot, or with `is_enabled=False` cut it off."""
        connection = build.business_connection(connection_id, owner, now(), is_enabled=is_enabled)
        return self.inject("business_connection", connection)

    def inline_query(self, user: User, query: str, *, offset: str = "") -> Update:
        """Type the bot's name and a query into some chat; the update has no chat."""
        return self.inject("inline_query", build.inline_query(self._account.new_query_id(), user, query, offset))

    def chosen_inline_result(
        self, user: User, result_id: str, query: str = "", *, inline_message_id: str = "inline-1"
    ) -> Update:
        """Choose one of the results of an inline query."""
        return self.inject(
            "chosen_inline_result", build.chosen_inline_result(user, result_id, query, inline_message_id)
        )

    def press_inline(self, user: User, data: str, *, inline_message_id: str = "inline-1") -> Update:
        """Press a button under a message that was sent through inline mode; the update has no chat."""
        query = build.callback_query(
            self._account.new_query_id(), user, "inline", data, inline_message_id=inline_message_id
        )
        return self.inject("callback_query", query)

    def poll(self, poll_id: str, question: str, votes: dict[str, int]) -> Update:
        """A poll of the bot has new votes; the update has neither chat nor user."""
        return self.inject("poll", build.poll(poll_id, question, votes))

    def poll_answer(self, user: User, poll_id: str, option_ids: Sequence[int]) -> Update:
        """A user votes in a poll that is not anonymous; the update has no chat."""
        return self.inject("poll_answer", build.poll_answer(poll_id, user, option_ids))

    def inject(self, kind: str, payload: Mapping[str, object]) -> Update:
        """Send the bot any update.

        Args:
            kind: the field of `Update`, such as `"message"`.
            payload: what is in the field, as the Bot API has it.

        Returns:
            The update with its new id. What the bot doesn't want (`allowed_updates`) is not delivered.
        """
        return self._account.inject(kind, dict(payload))

    def redeliver(self, update: Update | int) -> None:
        """Send an update again, as Telegram does when it is not sure that the bot has it.

        Args:
            update: the update, or its id.
        """
        update_id = update if isinstance(update, int) else update.id
        self._account.queue.put_again(self._account.sent[update_id])

    @property
    def pending(self) -> list[Update]:
        """Updates that the bot has not confirmed, oldest first."""
        return self._account.queue.updates()

    @property
    def calls(self) -> list[Call]:
        """All calls of the bot but `getUpdates`, oldest first."""
        return self._account.calls

    async def next_call(self, method: str | None = None, *, timeout: float | None = 60) -> Call:
        """Wait for a call of the bot.

        Args:
            method: its name, such as `"editMessageText"`; `None` takes any.
            timeout: seconds to wait; `None` waits for ever.

        Returns:
            The oldest such call that `next_call` has not returned before. `getUpdates` is not among them.

        Raises:
            TimeoutError: none came in time; the message says what the bot did instead.
        """
        try:
            return await self._account.unseen_calls.take(lambda call: method in (None, call.method), timeout=timeout)
        except TimeoutError:
            raise TimeoutError(
                f"no call of {method or 'any method'} within {timeout} s; {self._account.summary()}"
            ) from None

    async def contact(self, *, timeout: float | None = 60) -> None:
        """Wait until the bot calls any method, `getUpdates` included.

        Args:
            timeout: seconds to wait; `None` waits for ever.

        Raises:
            TimeoutError: it has not called in time.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._account.contact.wait()
        except TimeoutError:
            raise TimeoutError(f"the bot did not call the server within {timeout} s") from None

    async def idle(self, *, timeout: float | None = 60) -> None:
        """Wait until the bot has fetched all its updates and waits for more; handlers may still be at work.

        Args:
            timeout: seconds to wait; `None` waits for ever.

        Raises:
            TimeoutError: it has not come that far in time.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._account.queue.waited_for.wait()
        except TimeoutError:
            raise TimeoutError(
                f"the bot does not wait for updates after {timeout} s; {self._account.summary()}"
            ) from None

    def refuse(
        self, method: str, code: int, *, description: str = "", retry_after: int | None = None, times: int = 1
    ) -> None:
        """Answer the next calls of a method with an error, as Telegram does when it is overloaded.

        Args:
            method: such as `"sendMessage"`.
            code: of the error, such as 403, 429 or 502.
            description: in Telegram's words; without it, the name of the code.
            retry_after: seconds that the bot is told to wait, with 429.
            times: how many calls.
        """
        parameters = None if retry_after is None else {"retry_after": retry_after}
        self._account.refuse(method, ApiError(code, description or HTTPStatus(code).phrase, parameters), times)

    def hold(self, method: str) -> AbstractContextManager[None]:
        """Keep the bot waiting for answers to a method, inside a `with` block.

        What the bot asks for is done at once (a message arrives in its chat); only the answer waits. So a
        test can stop, cancel or kill a bot at a known place in its handler.

        Args:
            method: such as `"sendMessage"`.
        """
        return self._account.hold(method)
