"""The states of pyTelegramBotAPI's bots on the project's storages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar, Unpack, cast

from telebot import states as telebot_states
from telebot.asyncio_storage import StateStorageBase as AsyncStateStorageBase
from telebot.storage import StateStorageBase

from chatsession.integrations.states.conversations import States
from chatsession.integrations.states.options import StateOptions, options_of
from chatsession.integrations.states.records import EMPTY, State, StateKey, StateRecord, plain, updated
from chatsession.manager import SessionManager
from chatsession.storages import Storage
from chatsession.sync import SessionManager as SyncSessionManager
from chatsession.sync.block import Block

_Ids: TypeAlias = tuple[int | None, int | None, str | None, int | None, int | None]
_Data: TypeAlias = dict[str, Any]
_StateOrName: TypeAlias = telebot_states.State | str | int | None

_Done = TypeVar("_Done")
_GivenState = TypeVar("_GivenState")
_GivenData = TypeVar("_GivenData")
_DataBlock = TypeVar("_DataBlock")

_resolve_context = cast("Callable[[object, int | None], _Ids]", getattr(telebot_states, "resolve_context"))  # noqa: B009 - it is not annotated


class _OptionalIds(TypedDict, total=False):
    """The ids that tell conversations of one user in one chat apart. Passed by position, they come in this order."""

    business_connection_id: str | None
    message_thread_id: int | None
    bot_id: int | None


def _key(
    chat_id: int,
    user_id: int,
    business_connection_id: str | None = None,
    message_thread_id: int | None = None,
    bot_id: int | None = None,
) -> StateKey:
    owner = f"{_chat_prefix(bot_id, chat_id)}{user_id}"
    if not message_thread_id and not business_connection_id:
        return StateKey(owner, owner)
    return StateKey(f"{owner}:{message_thread_id or ''}:{business_connection_id or ''}", owner)


def _chat_prefix(bot_id: int | None, chat_id: int) -> str:
    return f"{bot_id or ''}:{chat_id}:"


_key_of_call: Callable[..., StateKey] = _key
"""`_key`, for methods whose optional ids come by position or by name."""


class _TelebotStates(States):
    """States with telebot's rules: data belongs to a state, and each method says whether there was one."""

    async def name_state(self, key: StateKey, name: State) -> bool:
        await self.set_state(key, name)
        return True

    async def delete(self, key: StateKey) -> bool:
        return await self._change(key, lambda record: EMPTY)

    async def replace_data(self, key: StateKey, data: _Data) -> bool:
        new = plain(data, key.text)
        return await self._change(key, lambda record: StateRecord.of_json(record.state, new))

    async def set_field(self, key: StateKey, field: str, value: object) -> bool:
        new = plain({field: value}, key.text)
        if not await self._change(key, lambda record: updated(record, new)):
            raise RuntimeError(f"no state is set for {key.text}: set one before its data")
        return True

    async def _change(self, key: StateKey, change: Callable[[StateRecord], StateRecord]) -> bool:
        """Change a record if there is one; returns whether there was."""
        existed = False

        def write(record: StateRecord) -> StateRecord:
            nonlocal existed
            existed = not record.empty
            return change(record) if existed else record

        await self.write(key, write)
        return existed


class _StateStorage(Generic[_Done, _GivenState, _GivenData, _DataBlock]):
    """The methods that telebot calls. What they return is to be awaited in an `AsyncTeleBot`."""

    states: _TelebotStates

    def _call(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
        raise NotImplementedError

    def _edit(self, key: StateKey) -> _DataBlock:
        raise NotImplementedError

    def follow_chat(self, bot_id: int | None, old: int, new: int) -> _Done:
        """Move the states of a group's members to the supergroup that it has become."""
        return self._call(self.states.move_all, _chat_prefix(bot_id, old), _chat_prefix(bot_id, new))

    def set_state(
        self, chat_id: int, user_id: int, state: _StateOrName, *more: str | int | None, **ids: Unpack[_OptionalIds]
    ) -> _Done:
        """Set the state, and keep the data.

        Raises:
            SessionClosedError: the storage is closed.
        """
        return self._call(self.states.name_state, _key_of_call(chat_id, user_id, *more, **ids), _name_of(state))

    def get_state(
        self, chat_id: int, user_id: int, *more: str | int | None, **ids: Unpack[_OptionalIds]
    ) -> _GivenState:
        """The name of the state, or `None`."""
        return self._call(self.states.get_state, _key_of_call(chat_id, user_id, *more, **ids))

    def delete_state(self, chat_id: int, user_id: int, *more: str | int | None, **ids: Unpack[_OptionalIds]) -> _Done:
        """Delete the state and its data; `False` if there is no state."""
        return self._call(self.states.delete, _key_of_call(chat_id, user_id, *more, **ids))

    def set_data(
        self, chat_id: int, user_id: int, key: str, value: Any, *more: str | int | None, **ids: Unpack[_OptionalIds]
    ) -> _Done:
        """Set one field of the data.

        Raises:
            RuntimeError: no state is set, as with the framework's own storages.
            SessionEncodeError: a part of the value, which is named by its path, is not JSON.
        """
        return self._call(self.states.set_field, _key_of_call(chat_id, user_id, *more, **ids), key, value)

    def get_data(self, chat_id: int, user_id: int, *more: str | int | None, **ids: Unpack[_OptionalIds]) -> _GivenData:
        """A copy of the data."""
        return self._call(self.states.get_data, _key_of_call(chat_id, user_id, *more, **ids))

    def reset_data(self, chat_id: int, user_id: int, *more: str | int | None, **ids: Unpack[_OptionalIds]) -> _Done:
        """Delete the data, and keep the state; `False` if there is no state."""
        return self.save(chat_id, user_id, {}, *more, **ids)

    def save(
        self, chat_id: int, user_id: int, data: _Data, *more: str | int | None, **ids: Unpack[_OptionalIds]
    ) -> _Done:
        """Replace the data, and keep the state. Writes nothing and returns `False` if there is no state."""
        return self._call(self.states.replace_data, _key_of_call(chat_id, user_id, *more, **ids), data)

    def get_interactive_data(
        self, chat_id: int, user_id: int, *more: str | int | None, **ids: Unpack[_OptionalIds]
    ) -> _DataBlock:
        """The block of `bot.retrieve_data`: stores the data when it ends, unless it raises."""
        return self._edit(_key_of_call(chat_id, user_id, *more, **ids))


class SessionStateStorage(  # pyright: ignore[reportIncompatibleMethodOverride] # the optional ids come as *more or **ids
    _StateStorage[Awaitable[bool], Awaitable[State], Awaitable[_Data], AbstractAsyncContextManager[_Data]],
    AsyncStateStorageBase,
):
    """State storage of an `AsyncTeleBot` on any of the project's storages.

    A state and its data are one record. It outlives the process and is shared by all processes of the bot. Each call
    is atomic. The block of `bot.retrieve_data` is a unit of work: the data is locked while it runs, and nothing is
    written if it fails. With `setup_fsm`, everything that an update does is one unit of work.

    Args:
        storage: a URL for `open_storage`, or a `Storage`; `None`: states live in memory and end with the process.
        **options: see `StateOptions`; `prefix` is `"telebot:"` unless another is given.

    Raises:
        StorageError: the URL is wrong.

    Examples:
        >>> from chatsession.integrations.telebot import SessionStateStorage
        >>> from telebot.async_telebot import AsyncTeleBot
        >>> bot = AsyncTeleBot("42:token", state_storage=SessionStateStorage("sqlite:///bot.db"))
    """

    def __init__(self, storage: Storage | str | None = None, **options: Unpack[StateOptions]) -> None:
        super().__init__()
        options.setdefault("prefix", "telebot:")
        self.sessions: SessionManager[StateRecord] = SessionManager.from_options(options_of(storage, options))
        """The records as sessions, for jobs and tools."""
        self.states: _TelebotStates = _TelebotStates(self.sessions)

    def key_of_ids(
        self,
        *,
        bot_id: int | None,
        chat_id: int,
        user_id: int,
        thread_id: int | None,
        business_connection_id: str | None,
        destiny: str | None = None,
    ) -> str:
        """The key of a conversation in `sessions`. `destiny` is aiogram's and has no meaning here."""
        return _key(chat_id, user_id, business_connection_id, thread_id, bot_id).text

    async def start(self) -> None:
        """Connect now rather than at the first use. After `close`, connect again."""
        await self.states.start()

    async def close(self) -> None:
        """Wait for the updates that are being handled, then disconnect. Later calls raise `SessionClosedError`."""
        await self.states.aclose()

    def _call(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
        return function(*arguments)

    def _edit(self, key: StateKey) -> AbstractAsyncContextManager[_Data]:
        return self.states.editing(key)


class SyncSessionStateStorage(  # pyright: ignore[reportIncompatibleMethodOverride] # the optional ids come as *more or **ids
    _StateStorage[bool, State, _Data, AbstractContextManager[_Data]],
    StateStorageBase,
):
    """State storage of a `TeleBot` on any of the project's storages.

    A state and its data are one record. It outlives the process and is shared by all processes of the bot. Each call
    is atomic, in any thread. The block of `bot.retrieve_data` is a unit of work: the data is locked while it runs,
    what its thread sets for the same user meanwhile belongs to it, and nothing is written if it fails. In the block,
    a call for another user is stored at once and waits for nobody, so that two blocks never wait for each other.

    The bot neither closes it nor waits for its threads when `infinity_polling` returns. Call `bot.stop_bot()`, which
    waits for the handlers that run, and then `close`. Otherwise the end of the process aborts their blocks.

    Args:
        storage: a URL for `open_storage`, or a `Storage`; `None`: states live in memory and end with the process.
        **options: see `StateOptions`; `prefix` is `"telebot:"` unless another is given.

    Raises:
        StorageError: the URL is wrong.

    Examples:
        >>> from chatsession.integrations.telebot import SyncSessionStateStorage
        >>> from telebot import TeleBot
        >>> bot = TeleBot("42:token", state_storage=SyncSessionStateStorage("sqlite:///bot.db"))
    """

    def __init__(self, storage: Storage | str | None = None, **options: Unpack[StateOptions]) -> None:
        super().__init__()
        options.setdefault("prefix", "telebot:")
        self.sessions: SyncSessionManager[StateRecord] = SyncSessionManager.from_options(options_of(storage, options))
        """The records as sessions, for jobs and tools."""
        self.states: _TelebotStates = _TelebotStates(self.sessions.asynchronous)
        self.sessions.loop_user = self.states

    def close(self) -> None:
        """Wait for blocks that are open, then disconnect. Later calls raise `SessionClosedError`."""
        self.sessions.close()

    def _call(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
        return self.sessions.join().call(function, *arguments)

    def _edit(self, key: StateKey) -> AbstractContextManager[_Data]:
        return Block(self.states.editing(key), self.sessions.join, key.text)


def key_of(payload: Any, bot_id: int | None) -> StateKey | None:
    """The conversation of an update, as telebot's own `StateFilter` finds it; `None` if the update has no user."""
    try:
        chat_id, user_id, business_connection_id, _, thread_id = _resolve_context(payload, bot_id)
    except (AttributeError, TypeError):
        # The filter does not know this kind, nor buttons of inline and old messages; or there is no user.
        user = getattr(payload, "from_user", None) or getattr(payload, "user", None)
        user_id = user and user.id
        chat = getattr(getattr(payload, "message", payload), "chat", None)
        chat_id, business_connection_id, thread_id = chat and chat.id, None, None
    if user_id is None:
        return None
    return _key(user_id if chat_id is None else chat_id, user_id, business_connection_id, thread_id, bot_id)


def _name_of(state: object) -> State:
    name = getattr(state, "name", state)
    if name is not None and not isinstance(name, (str, int)):
        raise TypeError(f"a state is a State, a string or a number, not a {type(name).__name__}")
    return name
