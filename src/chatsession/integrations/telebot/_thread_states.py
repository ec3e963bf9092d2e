"""The states of pyTelegramBotAPI's synchronous bot on the project's storages."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Unpack

from telebot import states as telebot_states
from telebot.storage import StateStorageBase

from chatsession.integrations.states.options import StateOptions, options_of
from chatsession.integrations.states.records import EMPTY, StateRecord, plain
from chatsession.integrations.telebot._states import chat_prefix, checked_state, setting, state_key
from chatsession.storages import Storage
from chatsession.sync import Session, SessionManager


class SyncSessionStateStorage(StateStorageBase):
    """State storage of a `TeleBot` on any of the project's storages.

    A state and its data are one record, which survives the process and is shared by all processes of the bot. Each
    call is atomic by itself, in whichever thread. `bot.retrieve_data` is a unit of work: the record is locked while
    its block runs, what the block sets in the same thread belongs to it, and nothing is written if the block fails.

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
        self.sessions: SessionManager[StateRecord] = SessionManager.from_options(options_of(storage, options))
        """The records as sessions, for jobs and tools."""
        self._open = threading.local()

    def close(self) -> None:
        """Wait for what is under way, then disconnect; later calls raise `SessionClosedError`."""
        self.sessions.close()

    def follow_chat(self, bot_id: int | None, old: int, new: int) -> None:
        """A group became a supergroup: move the records of its members."""
        units = self.sessions.asynchronous.units
        self.sessions.join().call(units.move_all, chat_prefix(bot_id, old), chat_prefix(bot_id, new))

    def set_state(
        self,
        chat_id: int,
        user_id: int,
        state: telebot_states.State | str | int | None,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Set the state, and keep the data. Raises `SessionClosedError` once the storage is closed."""
        name = checked_state(state)
        key = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text
        self._write(key, lambda record: StateRecord.of_json(name, record.json))
        return True

    def get_state(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> str | int | None:
        """The name of the state."""
        return self._read(state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text).state

    def delete_state(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Forget the state and the data; `False`: there was nothing to forget."""
        key = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text
        return not self._write(key, lambda record: EMPTY).empty

    def set_data(
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
        place = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text
        self._write(place, setting(place, key, value))
        return True

    def get_data(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> dict[str, Any]:
        """The data, as a copy."""
        key = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text
        return self._read(key).copy_data()

    def reset_data(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Forget the data, and keep the state; `False`: there is none."""
        return self.save(chat_id, user_id, {}, business_connection_id, message_thread_id, bot_id)

    def save(
        self,
        chat_id: int,
        user_id: int,
        data: dict[str, Any],
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> bool:
        """Replace the data, and keep the state; `False`: there is none, and nothing is written."""
        key = state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text
        new = plain(data, key)
        before = self._write(key, lambda record: record if record.empty else StateRecord.of_json(record.state, new))
        return not before.empty

    def get_interactive_data(
        self,
        chat_id: int,
        user_id: int,
        business_connection_id: str | None = None,
        message_thread_id: int | None = None,
        bot_id: int | None = None,
    ) -> AbstractContextManager[dict[str, Any]]:
        """What `bot.retrieve_data` gives: the data, stored when the block ends, and not if it raises."""
        return self._editing(state_key(chat_id, user_id, business_connection_id, message_thread_id, bot_id).text)

    @contextlib.contextmanager
    def _editing(self, key: str) -> Generator[dict[str, Any]]:
        with self._session(key) as session:
            data = _record(session).copy_data()
            yield data
            _store(session, StateRecord.of_json(_record(session).state, plain(data, key)))

    def _write(self, key: str, write: Callable[[StateRecord], StateRecord]) -> StateRecord:
        """Change a record atomically; gives what it was before."""
        with self._session(key) as session:
            before = _record(session)
            _store(session, write(before))
            return before

    def _read(self, key: str) -> StateRecord:
        session = self._opened().get(key)
        return (self.sessions.get(key) or EMPTY) if session is None else _record(session)

    @contextlib.contextmanager
    def _session(self, key: str) -> Generator[Session[StateRecord]]:
        """The record, locked: the one that this thread has open already, if it has."""
        opened = self._opened()
        if key in opened:
            yield opened[key]
            return
        with self.sessions.open(key) as session:
            opened[key] = session
            try:
                yield session
            finally:
                del opened[key]

    def _opened(self) -> dict[str, Session[StateRecord]]:
        """What this thread has open."""
        return self._open.__dict__.setdefault("sessions", {})


def _record(session: Session[StateRecord]) -> StateRecord:
    return session.data or EMPTY  # `None`: it was deleted in this block


def _store(session: Session[StateRecord], record: StateRecord) -> None:
    session.data = None if record.empty else record
