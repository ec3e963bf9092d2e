"""aiogram's FSM on the project's storages: the storage, and the isolation that makes one unit of an update."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Unpack, cast

from aiogram import Dispatcher, exceptions
from aiogram.dispatcher.event.bases import CancelHandler, SkipHandler
from aiogram.dispatcher.middlewares.manager import MiddlewareManager
from aiogram.fsm.middleware import FSMContextMiddleware
from aiogram.fsm.state import State
from aiogram.fsm.storage.base import DEFAULT_DESTINY, BaseEventIsolation, BaseStorage, StateType, StorageKey
from aiogram.fsm.storage.memory import DisabledEventIsolation, MemoryStorage
from aiogram.fsm.strategy import FSMStrategy
from aiogram.types import Message, TelegramObject, Update

from chatsession.integrations.states.conversations import States
from chatsession.integrations.states.options import StateOptions, options_of
from chatsession.integrations.states.records import StateKey, StateRecord
from chatsession.integrations.states.unit import StateUnit
from chatsession.manager import SessionManager
from chatsession.storages import Storage

_NotADict: type[Exception] = getattr(exceptions, "DataNotDictLikeError", TypeError)
"""What aiogram's own storages raise; older versions have no name for it."""

_Next = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]

CONTROL_FLOW = (SkipHandler, CancelHandler)


class SessionFSMStorage(BaseStorage):
    """aiogram's FSM storage on any of the project's storages.

    A state and its data are one record. With `create_isolation` as the dispatcher's `events_isolation`, an update
    reads it once and writes it once, at its end: a handler that fails leaves state and data as they were. Outside of
    an update each call is atomic by itself, and waits for the update that is running for its key. A call for the key
    of another user inside a handler waits for nobody, and is stored at once.

    `setup_fsm` does all of it. By hand it is:

        storage = SessionFSMStorage("sqlite:///bot.db")
        dispatcher = Dispatcher(storage=storage, events_isolation=storage.create_isolation())

    Args:
        storage: a URL for `open_storage`, or a `Storage`; `None`: states live in memory and end with the process.
        **options: see `StateOptions`; `prefix` is `"aiogram:"` unless another is given.

    Raises:
        StorageError: the URL is wrong.
    """

    def __init__(self, storage: Storage | str | None = None, **options: Unpack[StateOptions]) -> None:
        options.setdefault("prefix", "aiogram:")
        self._states = States(SessionManager.from_options(options_of(storage, options)))
        self._dispatchers = 0
        """So many are running by `setup_fsm`, each of which will call `close`."""

    @property
    def sessions(self) -> SessionManager[StateRecord]:
        """The records as sessions, for jobs and tools; `session_key` gives the key of one."""
        return self._states.sessions

    @staticmethod
    def session_key(key: StorageKey) -> str:
        """The key under which `sessions` has a conversation."""
        return _state_key(key).text

    def key_of_ids(
        self,
        *,
        bot_id: int | None,
        chat_id: int,
        user_id: int,
        thread_id: int | None,
        business_connection_id: str | None,
        destiny: str | None,
    ) -> str:
        """As `session_key`, for the ids of an importer."""
        if bot_id is None:
            raise ValueError("the states of aiogram belong to a bot: pass bot_id=…")
        ids = StorageKey(bot_id, chat_id, user_id, thread_id, business_connection_id, destiny or DEFAULT_DESTINY)
        return self.session_key(ids)

    def create_isolation(self) -> SessionEventIsolation:
        """Make the isolation that goes with this storage: updates of one conversation run one after another."""
        return SessionEventIsolation(self._states)

    def current(self) -> StateUnit | None:
        """The unit of the update in which the caller runs."""
        return self._states.current()

    async def follow_chat(
        self, bot_id: int, old: int, new: int, strategy: FSMStrategy = FSMStrategy.USER_IN_CHAT
    ) -> None:
        """Let the conversations of a group follow it to the supergroup that it has become.

        `setup_fsm` does so when one of the two service messages comes. Updates that still come for the old group
        find the conversations, too.

        Args:
            bot_id: whose conversations they are.
            old: the id of the group.
            new: the id of the supergroup.
            strategy: of the dispatcher.
        """
        if strategy in (FSMStrategy.CHAT, FSMStrategy.CHAT_TOPIC):
            await self._states.move(f"{bot_id}:{old}:{old}", f"{bot_id}:{new}:{new}")
            await self._states.move_all(f"{bot_id}:{old}:{old}", f"{bot_id}:{new}:{new}")
        elif strategy is not FSMStrategy.GLOBAL_USER:
            await self._states.move_all(f"{bot_id}:{old}:", f"{bot_id}:{new}:")

    async def start(self) -> None:
        """Connect now rather than at the first use; also after `close`, to go on."""
        await self._states.start()

    async def _start_dispatcher(self) -> None:
        """One more dispatcher starts, which closes the storage when it ends."""
        await self.start()
        self._dispatchers += 1

    async def close(self) -> None:
        """Wait for the updates that are being handled, then disconnect; later calls raise `SessionClosedError`.

        Of several dispatchers that `setup_fsm` has set up, the last one to end does so.
        """
        self._dispatchers = max(self._dispatchers - 1, 0)
        if not self._dispatchers:
            await self._states.aclose()

    async def set_state(self, key: StorageKey, state: StateType = None) -> None:
        """Set the state, and keep the data.

        Raises:
            SessionClosedError: the storage is closed.
        """
        name = state.state if isinstance(state, State) else state
        if name is not None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a state is a State, a string or None, not a {type(name).__name__}")
        await self._states.set_state(_state_key(key), name)

    async def get_state(self, key: StorageKey) -> str | None:
        """The name of the state."""
        return cast("str | None", await self._states.get_state(_state_key(key)))

    async def set_data(self, key: StorageKey, data: Mapping[str, Any]) -> None:
        """Replace the data, and keep the state.

        Raises:
            SessionEncodeError: a part of the data, which is named by its path, is not JSON.
        """
        await self._states.set_data(_state_key(key), _dict(data))

    async def get_data(self, key: StorageKey) -> dict[str, Any]:
        """The data, as a copy."""
        return await self._states.get_data(_state_key(key))

    async def get_value(self, storage_key: StorageKey, dict_key: str, default: Any | None = None) -> Any | None:
        """One field of the data, as a copy."""
        return await self._states.get_value(_state_key(storage_key), dict_key, default)

    async def update_data(self, key: StorageKey, data: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields of the data atomically, and give all of it; raises as `set_data`."""
        return await self._states.update_data(_state_key(key), _dict(data))


class SessionEventIsolation(BaseEventIsolation):
    """Runs the updates of one conversation one after another, in all processes, each as one unit of work.

    Made by `SessionFSMStorage.create_isolation`. An update that fails leaves the conversation as it was.
    """

    def __init__(self, states: States) -> None:
        self._states = states

    def lock(self, key: StorageKey) -> AbstractAsyncContextManager[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] # aiogram only enters it
        """Lock a conversation and load it; store what has changed when the block ends, unless it raises.

        Raises:
            SessionLockTimeoutError: the conversation made no progress for `lock_timeout` seconds.
            SessionConflictError: the lock was lost, or another process wrote without it; nothing was stored.
        """
        return self._states.unit(_state_key(key), CONTROL_FLOW)

    async def close(self) -> None:
        """The storage is closed by its own `close`."""


def plug_in(dispatcher: Dispatcher, storage: SessionFSMStorage) -> None:
    """Make a dispatcher use a storage, and its isolation.

    Raises:
        ValueError: it uses others already, or none.
    """
    fsm = dispatcher.fsm
    if fsm not in dispatcher.update.outer_middleware:
        raise ValueError("the Dispatcher was made with disable_fsm=True, so that it has no FSM to set up")
    if type(fsm.storage) is not MemoryStorage:
        raise ValueError(
            f"the Dispatcher has storage={type(fsm.storage).__name__} already, whose data setup_fsm would not use; "
            "make it without storage, and import the data if it must be kept (chatsession.importers.aiogram_fsm)"
        )
    if type(fsm.events_isolation) is not DisabledEventIsolation:
        raise ValueError(
            f"the Dispatcher has events_isolation={type(fsm.events_isolation).__name__} already; make it without "
            "events_isolation: setup_fsm brings its own, which locks in all processes"
        )
    fsm.storage, fsm.events_isolation = storage, storage.create_isolation()
    _put_before(fsm, _BeforeLocking(fsm, storage), dispatcher.update.outer_middleware)
    dispatcher.startup.register(storage._start_dispatcher)


def _put_before(place: FSMContextMiddleware, new: _BeforeLocking, middlewares: MiddlewareManager) -> None:
    following = middlewares[list(middlewares).index(place) :]
    for each in following:
        middlewares.unregister(each)
    for each in (new, *following):
        middlewares.register(each)


class _BeforeLocking:
    """What has to be done before aiogram locks the conversation of an update.

    The records of a group that became a supergroup follow it: once one of them is locked, it cannot move. And for an
    update that aiogram-dialog makes, aiogram locks none, although such an update reads what those of its user write.
    """

    def __init__(self, fsm: FSMContextMiddleware, storage: SessionFSMStorage) -> None:
        self._fsm = fsm
        self._storage = storage

    def __call__(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Awaitable[Any]:
        if type(event) is not Update:
            return self._locked(handler, event, data)
        message = event.message
        if message is not None and (message.migrate_to_chat_id or message.migrate_from_chat_id):
            return self._moved(handler, message, event, data)
        return handler(event, data)

    async def _moved(self, handler: _Next, message: Message, event: TelegramObject, data: dict[str, Any]) -> Any:
        old, new = message.migrate_from_chat_id or message.chat.id, message.migrate_to_chat_id or message.chat.id
        await self._storage.follow_chat(data["bot"].id, old, new, self._fsm.strategy)
        return await handler(event, data)

    async def _locked(self, handler: _Next, event: TelegramObject, data: dict[str, Any]) -> Any:
        if (key := self._key(event, data)) is None:
            return await handler(event, data)
        async with self._fsm.events_isolation.lock(key):
            return await handler(event, data)

    def _key(self, update: TelegramObject, data: dict[str, Any]) -> StorageKey | None:
        event: Any = getattr(update, "aiogd_update", None)  # aiogram-dialog need not be installed
        if not isinstance(event, TelegramObject):
            return None
        found = cast("Any", event)
        context = self._fsm.resolve_context(
            bot=data["bot"],
            chat_id=found.chat.id,
            user_id=found.from_user.id,
            thread_id=found.thread_id,
            business_connection_id=found.business_connection_id,
        )
        return None if context is None else context.key


@functools.lru_cache(maxsize=4096)  # an update asks for the same one four times and more
def _state_key(key: StorageKey) -> StateKey:
    owner = f"{key.bot_id}:{key.chat_id}:{key.user_id}"
    if key.thread_id is not None or key.business_connection_id is not None:
        # A business connection is named by Telegram, in a form that is not ours to know.
        owner += f":{'' if key.thread_id is None else key.thread_id}:{_escaped(key.business_connection_id)}"
    if key.destiny == DEFAULT_DESTINY:
        return StateKey(owner, owner)
    return StateKey(f"{owner}#{key.destiny}", owner)


def _escaped(part: str | None) -> str:
    if not part:
        return "" if part is None else "%"
    return part.replace("%", "%25").replace(":", "%3A").replace("#", "%23")


def _dict(data: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise _NotADict(f"Data must be a dict or dict-like object, got {type(data).__name__}")
    return data
