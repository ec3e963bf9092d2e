"""python-telegram-bot's persistence on a storage of sessions: what an application has of it, and how it is kept."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Self, TypeAlias, Unpack, cast

import msgspec
from telegram import Update
from telegram.ext import Application, BasePersistence, ContextTypes, ConversationHandler, PersistenceInput

from chatsession.errors import SessionError
from chatsession.integrations.states.options import StateOptions, check_names
from chatsession.integrations.telegram_ext._conversations import Conversations, states_in
from chatsession.integrations.telegram_ext._keyboards import Keyboards, keyboard_type
from chatsession.integrations.telegram_ext._records import DataName, Id, IdRecord, StoredName, merged, record_type
from chatsession.integrations.telegram_ext._scope import running_data
from chatsession.integrations.update_context import UpdateContext
from chatsession.manager import SessionManager
from chatsession.storages import Storage, open_storage
from chatsession.unit_of_work.move import move
from chatsession.unit_of_work.unit import UnitOfWork

_log = logging.getLogger("chatsession")

_KINDS: tuple[StoredName, ...] = ("user_data", "chat_data", "bot_data")
_NOTHING_BY_ITSELF = PersistenceInput(bot_data=False, chat_data=False, user_data=False, callback_data=False)
"""Whatever python-telegram-bot would load at the start, keep in memory, and store now and then."""


CallbackData: TypeAlias = tuple[list[tuple[str, float, dict[str, Any]]], dict[str, str]]
"""As python-telegram-bot has it: keyboards as UUID, time and buttons; keyboards by the ids of their queries."""
MONTH = datetime.timedelta(days=30)


class SessionPersistence(BasePersistence[Any, Any, Any]):
    """What `setup_persistence` puts at `application.persistence`.

    python-telegram-bot calls a persistence now and then, with what it has in memory. This one is called by nobody:
    data is loaded with each update and stored at its end. Inherit from it to override `refresh_user_data`,
    `refresh_chat_data` or `refresh_bot_data`, which are called before the first handler of an update, under the
    locks of its data. Its other methods look at what is stored, and change it, from outside of any update.

    Args:
        storage: a `Storage`, or a URL.
        context_types: of the application.
        per_bot: put the bot's id before each key.
        store_data: what is stored.
        types: what stored data must fit, where it is more than `context_types` tell.
        callback_data_ttl: seconds after which the data of a keyboard's buttons is forgotten; `None`: never.
        **options: see `StateOptions`; `prefix` is `"ptb:"` unless another is given.
    """

    def __init__(
        self,
        storage: Storage | str,
        *,
        context_types: ContextTypes[Any, Any, Any, Any],
        per_bot: bool = False,
        store_data: PersistenceInput | None = None,
        types: dict[str, Any] | None = None,
        callback_data_ttl: float | datetime.timedelta | None = MONTH,
        **options: Unpack[StateOptions],
    ) -> None:
        super().__init__(store_data=_NOTHING_BY_ITSELF)
        prefix = options.get("prefix", "ptb:")
        check_names(options)
        for name, value, kind, takes in (
            ("store_data", store_data or PersistenceInput(), PersistenceInput, "a PersistenceInput or None"),
            ("per_bot", per_bot, bool, "True or False"),
            ("prefix", prefix, str, "a string"),
        ):
            if not isinstance(value, kind):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
                raise TypeError(f"{name} takes {takes}, not {value!r}")
        self.stored: PersistenceInput = store_data or PersistenceInput()
        """What is stored; `store_data` tells python-telegram-bot to store nothing by itself."""
        self.conversations: Conversations = Conversations(self)
        self.refreshed: frozenset[StoredName] = frozenset(
            name for name in _KINDS if getattr(self.stored, name) and _overrides(type(self), f"refresh_{name}")
        )
        """Data of which other programs know something."""
        self._per_bot = per_bot
        given = {name: wanted for name, wanted in (types or {}).items() if wanted is not None}
        makers: dict[StoredName, Any] = {name: getattr(context_types, name) for name in _KINDS}
        self._makers: dict[StoredName, Callable[[], Any]] = makers
        wanted = {name: _type_of(name, maker, given.get(name)) for name, maker in makers.items()}
        self.types: dict[str, Any] = {**wanted, "callback_data": given.get("callback_data", Any)}
        """What stored data must fit."""
        storage = open_storage(storage) if isinstance(storage, str) else storage
        self._records: SessionManager[IdRecord] = SessionManager(
            record_type(wanted["user_data"], wanted["chat_data"]),
            storage=storage,
            merge=merged,
            name="persistence",
            **(options | {"prefix": f"{prefix}id:"}),
        )
        self._bot_data: SessionManager[Any] = SessionManager(
            makers["bot_data"],
            type=wanted["bot_data"],
            storage=storage,
            name="bot_data",
            **(options | {"prefix": f"{prefix}bot:"}),
        )
        keyboards: SessionManager[Any] = SessionManager(
            type=keyboard_type(given.get("callback_data", Any)),
            storage=storage,
            name="callback_data",
            expiry="fixed",
            **(options | {"prefix": f"{prefix}keyboard:", "ttl": callback_data_ttl, "deduplicate": 0}),
        )
        self.keyboards: Keyboards = Keyboards(keyboards, self)
        everything = (self._records, self._bot_data, keyboards)
        self.managers: dict[str, SessionManager[Any]] = {manager.options.name: manager for manager in everything}
        """By name; they share the storage."""
        self._at_start: list[Callable[[], Coroutine[Any, Any, object]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    # What an update has of it.

    def know(self, application: Application[Any, Any, Any, Any, Any, Any]) -> None:
        """Know the conversations of an application that is not initialized yet."""
        for handler in [handler for handlers in application.handlers.values() for handler in handlers]:
            if isinstance(handler, ConversationHandler) and handler.persistent:
                self.conversations.serve(handler)

    def ids_of(self, ctx: UpdateContext) -> list[Id | None]:
        """Under which ids the data of an update or a job is, with the meaning that python-telegram-bot gives them."""
        update = ctx.update
        if not isinstance(update, Update):
            return [ctx.chat_id, ctx.user_id]
        chat, user = update.effective_chat, update.effective_user
        return [chat and chat.id, user and user.id, self.conversations.message_id(update)]

    def unit(self, id_: Id, ctx: object = None) -> UnitOfWork[IdRecord]:
        """The unit of work of what is stored under an id."""
        return self._records.units.unit(self.key(id_), ctx)

    def bot_unit(self, ctx: object = None) -> UnitOfWork[Any]:
        """The unit of work of `bot_data`."""
        return self._bot_data.units.unit(f"{self._bot_data.runtime.prefix}{self.scope}data", ctx)

    def key(self, id_: Id) -> str:
        """The key under which an id is stored."""
        return f"{self._records.runtime.prefix}{self.scope}{id_}"

    def fresh(self, name: StoredName) -> Any:
        """New data for somebody who has none."""
        return self._makers[name]()

    def is_empty(self, name: StoredName, value: Any, *, made: bool) -> bool:
        """Whether there is nothing in it to store.

        Args:
            name: what it is.
            value: the data.
            made: it was made in this update, and perhaps only looked at.
        """
        if value is None or value == {}:
            return True
        if not made or isinstance(value, dict):
            return False
        try:
            return _plain(value) == _plain(self.fresh(name))
        except Exception:  # the commit will say what cannot be stored
            return False

    async def follow_chat(self, ctx: UpdateContext) -> None:
        """A group became a supergroup: let its data follow."""
        if ctx.moved_to is not None:
            await self.move_chat(ctx.chat_id, ctx.moved_to)
        elif ctx.moved_from is not None:
            await self.move_chat(ctx.moved_from, ctx.chat_id)

    async def move_chat(self, old: int | None, new: int | None) -> None:
        """Move what a group has to the supergroup that it became."""
        if old is not None and new is not None and old != new:
            await move(self._records.runtime, self.key(old), self.key(new))
            if self.conversations.follow_chats:
                async with self.unit(new) as session:
                    session.data.moved = (old, new)

    def now(self) -> float:
        """The time by the storage's clock, as Unix seconds."""
        return self._records.storage.now()

    # Its life.

    async def __aenter__(self) -> Self:
        """Open the storage for somebody beside the application, such as an import."""
        await self.start(asyncio.current_task())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release(user=asyncio.current_task())

    async def start(self, user: object = None) -> None:
        """Open the storage for somebody who uses it until `release`."""
        for manager in self.managers.values():
            await manager.runtime.start(user or self)
        while self._at_start:
            await _told(self._at_start.pop(0))

    async def release(self, timeout: float = 30.0, *, user: object = None) -> None:
        """Close the storage, once what is under way is done and if nobody else uses it."""
        await self.flush()
        users = [manager.runtime.release(user or self, timeout) for manager in self.managers.values()]
        left = sum(await asyncio.gather(*users))
        if left:
            _log.error("%d updates were still running %g s after the bot stopped; their data is lost", left, timeout)

    def soon(self, action: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[None] | None:
        """Do something for a caller who cannot wait, outside of any update; before the bot runs, at its start."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._at_start.append(action)
            return None
        task = loop.create_task(_told(action))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def afterwards(self, action: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Do something to data that is not loaded: after the running update, or at once if there is none."""
        if (data := running_data()) is not None:
            data.afterwards.append(action)
        else:
            self.soon(action)

    async def flush(self) -> None:
        """Wait until all that was asked for outside of any update is stored.

        Inside an update, this returns at once: what waits to be stored may wait for the update.
        """
        while self._under_way and running_data() is None:
            await asyncio.wait(self._under_way)

    # What python-telegram-bot's other persistences can do, too.

    async def get_user_data(self) -> dict[int, Any]:
        """The `user_data` of all users; takes the memory that it takes."""
        return {int(id_): record.user_data async for id_, record in self._all() if record.user_data is not None}

    async def get_chat_data(self) -> dict[int, Any]:
        """The `chat_data` of all chats; takes the memory that it takes."""
        return {int(id_): record.chat_data async for id_, record in self._all() if record.chat_data is not None}

    async def get_conversations(self, name: str) -> dict[tuple[int | str, ...], object]:
        """The states of all conversations of a handler; takes the memory that they take."""
        return {key: state async for _, record in self._all() for key, state in states_in(record, name).items()}

    async def update_user_data(self, user_id: int, data: Any) -> None:
        """Replace the `user_data` of a user, after the update that is running."""
        await self.change(user_id, "user_data", data)

    async def update_chat_data(self, chat_id: int, data: Any) -> None:
        """Replace the `chat_data` of a chat, after the update that is running."""
        await self.change(chat_id, "chat_data", data)

    async def update_conversation(self, name: str, key: Any, new_state: object | None) -> None:
        """Replace the state of a conversation, after the update that is running; `None`: it is over."""
        states = self.conversations.states(name)
        async with self.unit(states.home(key)) as session:
            record = session.data
            states.put_into(record, key, new_state)
            if record.empty:
                session.data = None

    async def drop_user_data(self, user_id: int) -> None:
        """Forget the `user_data` of a user, after the update that is running."""
        await self.change(user_id, "user_data", None)

    async def drop_chat_data(self, chat_id: int) -> None:
        """Forget the `chat_data` of a chat, after the update that is running."""
        await self.change(chat_id, "chat_data", None)

    async def refresh_user_data(self, user_id: int, user_data: Any) -> None:
        """Override this to bring in what other programs know of a user; changes are stored with the update."""

    async def refresh_chat_data(self, chat_id: int, chat_data: Any) -> None:
        """Override this to bring in what other programs know of a chat; changes are stored with the update."""

    async def refresh_bot_data(self, bot_data: Any) -> None:
        """Override this to bring in what other programs know of the bot; changes are stored with the update."""

    async def get_bot_data(self) -> Any:
        """A copy of the `bot_data`; changing it changes nothing."""
        key = f"{self.scope}data"
        stored = await self._bot_data.get(key)
        return self.fresh("bot_data") if stored is None else stored

    async def update_bot_data(self, data: Any) -> None:
        """Replace the `bot_data`, after the updates that use it."""
        async with self.bot_unit() as session:
            session.data = None if self.is_empty("bot_data", data, made=False) else data

    async def get_callback_data(self) -> CallbackData:
        """The data of all keyboards; takes the memory that it takes."""
        keyboards = self.keyboards.manager.entries()
        return [(uuid, keyboard.sent_at, keyboard.buttons) async for uuid, keyboard in keyboards], {}

    async def update_callback_data(self, data: CallbackData) -> None:
        """Add the data of keyboards; the ids of queries, which come second, are not stored."""
        for uuid, sent_at, buttons in data[0]:
            await self.keyboards.put(uuid, sent_at, buttons)

    async def change(self, id_: int, name: DataName, data: Any) -> None:
        """Replace the data of an id, after the update that is running; `None`: forget it."""
        async with self.unit(id_) as session:
            record = session.data
            setattr(record, name, None if self.is_empty(name, data, made=False) else data)
            if record.empty:
                session.data = None

    async def _all(self) -> AsyncIterator[tuple[str, IdRecord]]:
        scope = self.scope
        async for key, record in self._records.entries():
            if key.startswith(scope):
                yield key[len(scope) :], record

    @property
    def scope(self) -> str:
        """What stands between the prefix and each key: the bot's id, if several bots share a storage."""
        return f"{self.bot.token.partition(':')[0]}:" if self._per_bot else ""


def _type_of(name: str, maker: Any, wanted: Any) -> Any:
    """The type that stored data must fit."""
    if wanted is not None:
        if isinstance(wanted, (str, bytes, int, float, dict, list)):  # no type, whatever kinds of types there are
            raise TypeError(f"{name} takes a type, as in {name}=dict[int, str], not {wanted!r}")
        return wanted
    if maker is dict:
        return dict[str, Any]
    if isinstance(maker, type):
        return cast("type[object]", maker)
    raise TypeError(f"ContextTypes give a {type(maker).__name__} for {name}, which tells no type; pass {name}=…, too")


def _overrides(kind: type[SessionPersistence], name: str) -> bool:
    return getattr(kind, name) is not getattr(SessionPersistence, name)


def _plain(value: object) -> object:
    return msgspec.to_builtins(value, enc_hook=vars)


async def _told(action: Callable[[], Coroutine[Any, Any, object]]) -> None:
    try:
        await action()
    except SessionError as error:
        _log.error("what was asked for outside of any update could not be stored: %s", error)
