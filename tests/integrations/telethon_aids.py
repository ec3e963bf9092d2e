"""What the tests of Telethon's integration share: a client without a network, and updates as MTProto brings them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from itertools import count
from typing import Any, ClassVar

from telebot_aids import asking_for, context_name
from telethon import TelegramClient, events
from telethon.extensions import BinaryReader
from telethon.sessions import StringSession
from telethon.tl import types

from chatsession import SessionManager
from chatsession.integrations.telethon import setup_sessions
from chatsession.testing.integrations import FrameworkDriver, Incoming, Kind, NeutralContext, NeutralHandler

_ids = count(1)


class Errors(logging.Handler):
    """Keeps the errors that Telethon logs, which is all that it does with them."""

    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self.errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


class Offline:
    """A client that dispatches as ever, except that it connects to nobody."""

    def __init__(self, errors: list[BaseException]) -> None:
        # A logger outside of the tree, so that what each client logs stays its own.
        log = logging.Logger("telethon")
        log.addHandler(Errors(errors))
        self.client = TelegramClient(StringSession(), 1, "hash", base_logger=log)
        log.manager = logging.Manager(log)  # type: ignore[arg-type] # whose children Telethon asks for
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.client._loop = asyncio.get_running_loop()
        self.client._mb_entity_cache.set_self_user(42, True, 1)
        await self.client._update_loop()  # which ends at once, since there is no connection

    async def stop(self) -> None:
        await self.client.disconnect()

    def begin(self, update: Any) -> asyncio.Task[None]:
        """Let an update in, as the update loop does."""
        received = BinaryReader(bytes(update)).tgread_object()
        received._entities = {}
        task = asyncio.get_running_loop().create_task(self.client._dispatch_update(received))
        self.client._event_handler_tasks.add(task)
        task.add_done_callback(self.client._event_handler_tasks.discard)
        return task

    async def feed(self, update: Any) -> None:
        await self.begin(update)


def peer(chat_id: int) -> Any:
    if chat_id > 0:
        return types.PeerUser(chat_id)
    if chat_id < -(10**12):
        return types.PeerChannel(-chat_id - 10**12)
    return types.PeerChat(-chat_id)  # also the suite's supergroups, whose ids are shorter than those of MTProto can be


def new_message(message: Any) -> Any:
    if isinstance(message.peer_id, types.PeerChannel):
        return types.UpdateNewChannelMessage(message, pts=1, pts_count=1)
    return types.UpdateNewMessage(message, pts=1, pts_count=1)


def written(text: str = "🍕", *, user_id: int | None = 7, chat_id: int = 7, **more: Any) -> Any:
    """A message; `user_id=None` for the posts of channels."""
    from_id = None if user_id is None or chat_id > 0 else types.PeerUser(user_id)
    return types.Message(id=next(_ids), peer_id=peer(chat_id), from_id=from_id, message=text, **more)


def service(action: Any, *, user_id: int = 7, chat_id: int = 7) -> Any:
    return types.MessageService(
        id=next(_ids), peer_id=peer(chat_id), from_id=types.PeerUser(user_id), date=None, action=action
    )


def inline_query(text: str = "pizza", user_id: int = 7) -> Any:
    return types.UpdateBotInlineQuery(query_id=next(_ids), user_id=user_id, query=text, offset="")


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
            return new_message(service(types.MessageActionChatMigrateTo(new), **ids))
        case Kind.MIGRATE_FROM:
            old = -(incoming.other_chat_id or 0)
            return new_message(service(types.MessageActionChannelMigrateFrom("Chat", old), **ids))
        case Kind.UNKNOWN:
            return types.UpdateConfig()  # one that Telethon has no events for


class TelethonDriver(FrameworkDriver):
    """The bot of the conformance suite."""

    control_flow: ClassVar = {"StopPropagation": events.StopPropagation}
    update_ids = False

    def __init__(self) -> None:
        super().__init__()
        self.offline = Offline(self.errors)
        self.client = self.offline.client

    def setup(self, sessions: SessionManager[Any], *, lazy: bool = False) -> None:
        setup_sessions(self.client, sessions, lazy=lazy)

    def handle(self, handler: NeutralHandler, *, wants: Collection[SessionManager[Any]]) -> None:
        contexts = {each.options.name: context_name(each) for each in wants}

        async def serve(event: Any, **given: Any) -> None:
            access = {name: given[context] for name, context in contexts.items()}
            await handler(NeutralContext(event.text, access))

        named = asking_for(serve, contexts.values())
        self.client.add_event_handler(named, events.NewMessage)
        self.client.add_event_handler(named, events.InlineQuery)

    async def start(self) -> None:
        await self.offline.start()

    async def feed(self, incoming: Incoming) -> None:
        await self.offline.feed(tl_update(incoming))

    async def stop(self) -> None:
        await self.offline.stop()
