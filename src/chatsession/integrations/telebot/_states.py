"""The states of pyTelegramBotAPI's async bot on the project's storages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, Unpack, cast

from telebot import states as telebot_states
from telebot.asyncio_storage import StateStorageBase

from chatsession.integrations.states.conversations import States
from chatsession.integrations.states.options import StateOptions
from chatsession.integrations.states.records import EMPTY, StateKey, StateRecord, plain, updated
from chatsession.manager import SessionManager
from chatsession.storages import Storage

_Ids: TypeAlias = tuple[int | None, int | None, str | None, int | None, int | None]

_resolve_context = cast("Callable[[object, int | None], _Ids]", getattr(telebot_states, "resolve_context"))  # noqa: B009 - it is not annotated


class SessionStateStorage(StateStorageBase):
    """State storage of an `AsyncTeleBot` on any of the project's storages.

    A state and its data are one record, which survives the process and is shared by all processes of the bot. Each
    call is atomic by itself. `bot.retrieve_data` is a unit of work: the data is locked while its block runs, and
    nothing is written if the block fails. With `setup_fsm`, all that an update does is one.

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
        self.states: States = States(storage, options)

    @property
    def sessions(self) -> SessionManager[StateRecord]:
        """The records as sessions, for jobs and tools."""
        return self.states.sessions

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
        """The key under which `sessions` has a conversation; `destiny` is aiogram's, and not used here."""
        return state_key(chat_id, user_id, business_connection_id, thread_id, bot_id).text

    async def start(self) -> None:
        """Connect now rather than at the first use; also after `close`, to go on."""
        await self.states.start()

    async def close(self) -> None:
        """Wait for what is under way, then disconnect; later calls raise `SessionClosedError`."""
        await self.states.aclose()

    async def follow_chat(self, bot_id: int | None, old: int, new: int) -> None:
        """A group became a supergroup: move the records of its members."""
        await self.states.move_all(chat_prefix(bot_id, old), chat_prefix(bot_id, new))

    async def set_state(
        self,
        chat_id: int,
        user_id: int,
        state: telebot_states.State | str | int | None,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Set the state, and keep the data.

        Raises:
            SessionClosedError: the storage is closed.
        """
        name = checked_state(state)
        key = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id)
        await self.states.set_state(key, name)
        return True

    async def get_state(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> str | int | None:
        """The name of the state."""
        return await self.states.get_state(
            state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id)
        )

    async def delete_state(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Forget the state and the data; `False`: there was nothing to forget."""
        existed = False

        def forget(record: StateRecord) -> StateRecord:
            nonlocal existed
            existed = not record.empty
            return EMPTY

        await self.states.write(state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id), forget)
        return existed

    async def set_data(
        self,
        chat_id: int,
        user_id: int,
        key: str,
        value: Any,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Set one field of the data.

        Raises:
            RuntimeError: no state was set, as with the framework's own storages.
            SessionEncodeError: a part of the value, which is named by its path, is not JSON.
        """
        place = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id)
        await self.states.write(place, setting(place.text, key, value))
        return True

    async def get_data(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> dict[str, Any]:
        """The data, as a copy."""
        return await self.states.get_data(
            state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id)
        )

    async def reset_data(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Forget the data, and keep the state; `False`: there is none."""
        return await self.save(chat_id, user_id, {}, business_connection_id, message_thread_id, bot_id)

    async def save(
        self,
        chat_id: int,
        user_id: int,
        data: dict[str, Any],
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Replace the data, and keep the state; `False`: there is none, and nothing is written."""
        place = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id)
        new, existed = plain(data, place.text), False

        def change(record: StateRecord) -> StateRecord:
            nonlocal existed
            existed = not record.empty
            return StateRecord.of_json(record.state, new) if existed else record

        await self.states.write(place, change)
        return existed

    def get_interactive_data(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> AbstractAsyncContextManager[dict[str, Any]]:
        """What `bot.retrieve_data` gives: the data, stored when the block ends, and not if it raises."""
        return self.states.editing(state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id))


def key_of(payload: object, bot_id: int | None) -> StateKey | None:
    """The record of the conversation that an update belongs to, as the framework's own filter finds it."""
    try:
        chat_id, user_id, business_connection_id, bot_id, thread_id = _resolve_context(payload, bot_id)
    except (AttributeError, TypeError):  # of an update without a user, or of one that the filter does not know
        return None
    if user_id is None:
        return None
    return state_key(user_id if chat_id is None else chat_id, user_id, business_connection_id, thread_id, bot_id)


def checked_state(state: object) -> str | int | None:
    """The name of a state, or the state where it has none. Raises `TypeError` for anything else."""
    name = getattr(state, "name", state)
    if name is not None and not isinstance(name, (str, int)):
        raise TypeError(f"a state is a State, a string or a number, not a {type(name).__name__}")
    return name


def setting(place: str, field: str, value: object) -> Callable[[StateRecord], StateRecord]:
    """The change of a record that sets one field of its data, as both kinds of storage make it."""
    new = plain({field: value}, place)

    def change(record: StateRecord) -> StateRecord:
        if record.empty:
            raise RuntimeError(f"no state is set for {place}: set one before its data")
        return updated(record, new)

    return change


def chat_prefix(bot_id: int | None, chat_id: int) -> str:
    """How the keys of a chat's conversations begin."""
    return f"{bot_id or ''}:{chat_id}:"


def state_key(
    chat_id: int, user_id: int, business_connection_id: str | None, thread_id: int | None, bot_id: int | None
) -> StateKey:
    """Where the record of a conversation is."""
    owner = f"{chat_prefix(bot_id, chat_id)}{user_id}"
    if not thread_id and not business_connection_id:
        return StateKey(owner, owner)
    return StateKey(f"{owner}:{thread_id or ''}:{business_connection_id or ''}", owner)
