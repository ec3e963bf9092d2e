"""What the tests of kurigram's integration share: a client without a network, and updates as MTProto brings them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from io import BytesIO
from itertools import count
from typing import Any, ClassVar

import pyrogram
from pyrogram import Client, ContinuePropagation, StopPropagation, handlers, raw, types
from telebot_aids import asking_for, context_name

from chatsession import SessionManager
from chatsession.integrations.pyrogram import setup_sessions
from chatsession.testing.integrations import FrameworkDriver, Incoming, Kind, NeutralContext, NeutralHandler

DATE = 1_780_000_000
_ids = count(1)


class Watched(asyncio.Queue[Any]):
    """The dispatcher's queue, which knows when a worker is done with an update: when it comes for the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.done: dict[int, asyncio.Event] = {}
        self._working: dict[asyncio.Task[Any], asyncio.Event] = {}

    async def get(self) -> Any:
        worker = asyncio.current_task()
        assert worker is not None
        if worker in self._working:
            self._working.pop(worker).set()
        packet = await super().get()
        if packet is not None and (done := self.done.pop(id(packet[0]), None)) is not None:
            self._working[worker] = done
            worker.add_done_callback(lambda _: done.set())
        return packet


class Offline:
    """A client that starts, dispatches and stops as ever, except that it connects to nobody."""

    def __init__(self, workers: int = 4, client: Client | None = None) -> None:
        self.client = client or Client("bot", in_memory=True, workers=workers, skip_updates=True)
        self.queue = self.client.dispatcher.updates_queue = Watched()
        self._one_after_the_other = asyncio.Lock()

    async def start(self) -> None:
        await self.client.storage.open()
        self.client.is_connected = True
        self.client.me = types.User(id=42, is_bot=True)
        await self.client.initialize()

    async def stop(self) -> None:
        workers = self.client.dispatcher.handler_worker_tasks
        workers[:] = [worker for worker in workers if not worker.cancelled()]
        await self.client.terminate()
        await self.client.storage.close()
        self.client.executor.shutdown()

    async def feed(self, update: Any, users: Collection[Any] = (), chats: Collection[Any] = ()) -> None:
        """Let an update in as if the connection had brought it, and wait until it is handled."""
        sent = raw.types.Updates(updates=[update], users=list(users), chats=list(chats), date=DATE, seq=0)
        received = raw.core.TLObject.read(BytesIO(sent.write()))
        done = self.queue.done[id(received.updates[0])] = asyncio.Event()
        async with self._one_after_the_other:
            await self.client.handle_updates(received)
        await done.wait()


def user(user_id: int) -> raw.types.User:
    return raw.types.User(id=user_id, first_name=f"User {user_id}", access_hash=1)


def chat(chat_id: int, **more: Any) -> Any:
    """A group or a supergroup, by its id in the Bot API."""
    rights = raw.types.ChatBannedRights(until_date=0)
    if str(chat_id).startswith("-100"):
        return raw.types.Channel(
            id=-chat_id - 10**12,
            title="Chat",
            photo=raw.types.ChatPhotoEmpty(),
            date=DATE,
            access_hash=1,
            default_banned_rights=rights,
            **{"megagroup": True, **more},
        )
    return raw.types.Chat(
        id=-chat_id, title="Chat", photo=raw.types.ChatPhotoEmpty(), participants_count=2, date=DATE, version=1
    )


def peer(chat_id: int) -> Any:
    if chat_id > 0:
        return raw.types.PeerUser(user_id=chat_id)
    if str(chat_id).startswith("-100"):
        return raw.types.PeerChannel(channel_id=-chat_id - 10**12)
    return raw.types.PeerChat(chat_id=-chat_id)


def new_message(message: Any) -> Any:
    kind = raw.types.UpdateNewMessage
    if isinstance(message.peer_id, raw.types.PeerChannel):
        kind = raw.types.UpdateNewChannelMessage
    return kind(message=message, pts=next(_ids), pts_count=1)


def written(text: str = "🍕", *, user_id: int | None = 7, chat_id: int = 7, **more: Any) -> Any:
    """A message; `user_id=None` for the posts of channels."""
    from_id = None if user_id is None or chat_id > 0 else raw.types.PeerUser(user_id=user_id)
    return raw.types.Message(id=next(_ids), peer_id=peer(chat_id), from_id=from_id, date=DATE, message=text, **more)


def service(action: Any, *, user_id: int = 7, chat_id: int = 7) -> Any:
    return raw.types.MessageService(
        id=next(_ids), peer_id=peer(chat_id), from_id=raw.types.PeerUser(user_id=user_id), date=DATE, action=action
    )


def inline_query(text: str = "pizza", user_id: int = 7) -> Any:
    return raw.types.UpdateBotInlineQuery(query_id=next(_ids), user_id=user_id, query=text, offset="")


def tl_update(incoming: Incoming) -> Any:
    """The update of the conformance suite in MTProto."""
    ids = {"user_id": incoming.user_id, "chat_id": incoming.chat_id}
    match incoming.kind:
        case Kind.MESSAGE:
            return new_message(written(incoming.text, **ids))
        case Kind.INLINE_QUERY:
            return inline_query(incoming.text, incoming.user_id)
        case Kind.MIGRATE_TO:
            new = -(incoming.other_chat_id or 0) - 10**12
            return new_message(service(raw.types.MessageActionChatMigrateTo(channel_id=new), **ids))
        case Kind.MIGRATE_FROM:
            old = -(incoming.other_chat_id or 0)
            return new_message(service(raw.types.MessageActionChannelMigrateFrom(title="Chat", chat_id=old), **ids))
        case Kind.UNKNOWN:
            return raw.types.UpdateConfig()  # one that kurigram has no handlers for


class PyrogramDriver(FrameworkDriver):
    """The bot of the conformance suite."""

    control_flow: ClassVar = {"StopPropagation": StopPropagation, "ContinuePropagation": ContinuePropagation}
    update_ids = False

    def __init__(self) -> None:
        super().__init__()
        self.offline = Offline(workers=250)
        self.client = self.offline.client

    async def _on_error(self, client: Client, error: Exception, *_: object) -> None:
        self.errors.append(error)

    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        setup_sessions(self.client, sessions, lazy=lazy)

    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        contexts = {each.options.name: context_name(each) for each in wants}

        async def serve(update: types.Message | types.InlineQuery, **given: Any) -> None:
            text = update.text if isinstance(update, types.Message) else update.query
            if text is not None:
                await handler(NeutralContext(str(text), {name: given[context] for name, context in contexts.items()}))

        named = asking_for(serve, contexts.values(), first="client, event")
        self.client.add_handler(handlers.ErrorHandler(self._on_error))  # not before the loop runs, which it looks for
        self.client.add_handler(handlers.MessageHandler(named, pyrogram.filters.text))
        self.client.add_handler(handlers.InlineQueryHandler(named))

    async def start(self) -> None:
        await self.offline.start()

    async def feed(self, incoming: Incoming) -> None:
        chats = [chat(incoming.chat_id)] if incoming.chat_id < 0 else []
        users = [user(incoming.user_id), user(abs(incoming.chat_id))]
        await self.offline.feed(tl_update(incoming), users, chats)

    async def stop(self) -> None:
        if self.client.is_initialized:
            await self.offline.stop()
