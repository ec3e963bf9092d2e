"""What the server keeps about one bot: chats, updates on their way, calls it made."""

import asyncio
import itertools
import logging
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from ._errors import ApiError, bad_request, conflict
from ._mailbox import Mailbox
from ._queue import Update, UpdateQueue
from ._updates import JsonObject, User
from ._webhook import Webhook, deliver

logger = logging.getLogger("chatsession_playground")

# What a bot doesn't get unless it asks: https://core.telegram.org/bots/api#getupdates
ONLY_ON_DEMAND = frozenset({"chat_member", "message_reaction", "message_reaction_count"})


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a bot made.

    Args:
        method: its name as in the Bot API's documentation, such as `"sendMessage"`.
        params: its parameters, numbers and objects decoded.
        result: what the bot was answered; `None` after an error.
        error: the description of the refusal, such as `"Bad Request: chat not found"`, or `None`.
    """

    method: str
    params: JsonObject
    result: object = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BotMessage:
    """A message that the bot sent.

    Args:
        id: the `message_id`.
        text: its text, with the marks of a `parse_mode` left in.
        json: the whole `Message`.
    """

    id: int
    text: str
    json: JsonObject

    @property
    def thread_id(self) -> int | None:
        """The topic it was sent to."""
        return cast("int | None", self.json.get("message_thread_id"))


@dataclass(frozen=True, slots=True)
class BusinessConnection:
    """A business account that lets the bot answer for it.

    Args:
        id: the `business_connection_id`.
        owner: whose account it is.
    """

    id: str
    owner: User


@dataclass(slots=True)
class ChatRecord:
    """A chat as the server knows it."""

    info: JsonObject
    business: BusinessConnection | None = None
    bot_status: str = "member"
    migrated_to: int | None = None
    members: dict[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    """Those of whom more is known than that they write here, as `ChatMember`s."""
    messages: dict[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    sent_by_bot: set[int] = field(default_factory=set[int])
    reactions: dict[tuple[int, int], list[str]] = field(default_factory=dict[tuple[int, int], list[str]])
    from_bot: Mailbox[BotMessage] = field(default_factory=Mailbox[BotMessage])
    message_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def id(self) -> int:
        return cast("int", self.info["id"])

    @property
    def kind(self) -> str:
        return cast("str", self.info["type"])

    @property
    def key(self) -> tuple[str | None, int]:
        """A customer's chat with a business is not that customer's chat with the bot: ids are equal."""
        return (self.business.id if self.business else None, self.id)


class BotAccount:
    """One bot at the server.

    Args:
        token: `"<bot id>:<secret>"`.
    """

    def __init__(self, token: str) -> None:
        bot_id = int(token.partition(":")[0])
        self.token = token
        self.user = User(bot_id, "Playground bot", f"playground_{bot_id}_bot", is_bot=True)
        self.queue = UpdateQueue()
        self.sent: dict[int, Update] = {}
        self.allowed_updates: frozenset[str] | None = None
        self.webhook: Webhook | None = None
        self.calls: list[Call] = []
        self.unseen_calls: Mailbox[Call] = Mailbox()
        self.open_queries: set[str] = set()
        self.group_ids = itertools.count(-2001, -1)
        self.supergroup_ids = itertools.count(-1_001_000_000_001, -1)
        self.contact = asyncio.Event()
        self._said_what_it_wants = False
        self._chats: dict[tuple[str | None, int], ChatRecord] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._refusals: dict[str, list[ApiError]] = {}
        self._query_ids = itertools.count(bot_id << 32)
        self._update_ids = itertools.count(100_000_001)
        self._webhook_task: asyncio.Task[None] | None = None

    def note_contact(self) -> None:
        """Wake everything that waits for the next call of the bot."""
        self.contact.set()
        self.contact = asyncio.Event()

    def inject(self, kind: str, payload: JsonObject) -> Update:
        """Send the bot an update, unless it said that it doesn't want this kind."""
        update = Update(next(self._update_ids), kind, payload)
        self.sent[update.id] = update
        if self.wants(kind):
            self.queue.put(update)
        else:
            logger.warning("%s %d is not in the bot's allowed_updates: not delivered", kind, update.id)
        return update

    def new_query_id(self) -> str:
        """The id of a callback or inline query that the bot may answer."""
        query_id = str(next(self._query_ids))
        self.open_queries.add(query_id)
        return query_id

    def add_chat(self, chat: ChatRecord) -> ChatRecord:
        """Make a chat known to the bot, or find the one that has this id already."""
        return self._chats.setdefault(chat.key, chat)

    def chat(self, chat_id: object, business_connection_id: str | None = None) -> ChatRecord:
        """Find a chat that the bot may write to.

        Raises:
            ApiError: there is none, it has moved, or the bot is not in it any more.
        """
        if chat_id in (None, ""):
            raise bad_request("chat_id is empty")
        if isinstance(chat_id, str):
            found = [chat for chat in self._chats.values() if f"@{chat.info.get('username')}" == chat_id]
            chat = found[0] if found else None
        else:
            chat = self._chats.get((business_connection_id, cast("int", chat_id)))
        if chat is None:
            raise bad_request("chat not found")
        if chat.migrated_to is not None:
            moved = bad_request("group chat was upgraded to a supergroup chat")
            moved.parameters = {"migrate_to_chat_id": chat.migrated_to}
            raise moved
        if chat.bot_status in ("kicked", "left"):
            raise ApiError(
                403,
                "Forbidden: bot was blocked by the user"
                if chat.kind == "private"
                else f"Forbidden: bot was kicked from the {chat.kind} chat",
            )
        return chat

    async def next_updates(
        self, offset: int, limit: int, timeout: float, allowed_updates: Collection[str] | None
    ) -> list[Update]:
        """The long poll of `getUpdates`; it ends the one that is under way."""
        if self.webhook is not None:
            raise conflict(
                "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            )
        self.queue.interrupt(
            conflict("terminated by other getUpdates request; make sure that only one bot instance is running")
        )
        self.allow(allowed_updates)
        batch = self.queue.take(offset, limit)
        if not batch and timeout > 0:
            try:
                async with asyncio.timeout(timeout):
                    await self.queue.changed()
            except TimeoutError:
                return []
            batch = self.queue.take(offset, limit)
        return batch

    def allow(self, kinds: Collection[str] | None) -> None:
        """Remember which updates the bot wants; without a word, what it said last holds on."""
        self._said_what_it_wants = True
        if kinds is not None:
            self.allowed_updates = frozenset(kinds) or None

    def wants(self, kind: str) -> bool:
        """Whether the bot is sent updates of this kind; everything, before its first word about them."""
        if self.allowed_updates is not None:
            return kind in self.allowed_updates
        return not self._said_what_it_wants or kind not in ONLY_ON_DEMAND

    async def set_webhook(self, webhook: Webhook | None) -> None:
        """Deliver to a URL from now on; with `None` keep updates until they are fetched."""
        await self.stop_webhook()
        self.webhook = webhook
        if webhook is not None:
            self.queue.interrupt(conflict("terminated by setWebhook request"))
            self._webhook_task = asyncio.create_task(deliver(self.queue, webhook))

    async def stop_webhook(self) -> None:
        """End the delivery; what is on its way counts as not delivered."""
        task, self._webhook_task = self._webhook_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def record(self, call: Call) -> None:
        """Record a call, and wake what waits for it."""
        self.calls.append(call)
        self.unseen_calls.put(call)

    def summary(self) -> str:
        """What the bot did so far, for messages about what it did not do."""
        made = ", ".join(f"{call.method} ({call.error})" if call.error else call.method for call in self.calls[-10:])
        return f"its last calls: {made or 'none'}; {len(self.queue)} updates are not confirmed"

    @contextmanager
    def hold(self, method: str) -> Generator[None]:
        """Do what the bot asks with this method, but keep it waiting for the answer."""
        free = self._held[method.lower()] = asyncio.Event()
        try:
            yield
        finally:
            del self._held[method.lower()]
            free.set()

    def refuse(self, method: str, error: ApiError, times: int) -> None:
        """Answer the next calls of a method with an error, and do nothing of what they ask for."""
        self._refusals.setdefault(method.lower(), []).extend([error] * times)

    def check_refusals(self, method: str) -> None:
        """Raises the next error that was set up for a method."""
        if self._refusals.get(method.lower()):
            raise self._refusals[method.lower()].pop(0)

    async def released(self, method: str) -> None:
        """Wait until calls of this method are answered."""
        if (free := self._held.get(method.lower())) is not None:
            await free.wait()

    async def close(self) -> None:
        """End every call that waits."""
        await self.stop_webhook()
        self.queue.interrupt(ApiError(502, "Bad Gateway"))
        for free in self._held.values():
            free.set()


def now() -> int:
    """Unix time in whole seconds, as the Bot API's dates."""
    return int(time.time())
