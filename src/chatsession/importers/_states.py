"""Stores entries as states, in the storage that `setup_fsm` returns."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Protocol

from chatsession.importers._entries import Entry
from chatsession.importers._importing import ImportReport, OnExisting, import_into
from chatsession.integrations.states.records import StateRecord, plain
from chatsession.manager import SessionManager


class StateStorage(Protocol):
    """A `SessionFSMStorage` of aiogram, or a `SessionStateStorage` of pyTelegramBotAPI."""

    @property
    def sessions(self) -> SessionManager[StateRecord]:
        """The records."""
        ...

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
        """The key of a conversation among `sessions`."""
        ...


async def import_states(
    storage: StateStorage,
    entries: AsyncIterable[Entry],
    *,
    bot_id: int | None = None,
    on_existing: OnExisting = "keep",
    dry_run: bool = False,
    progress: Callable[[ImportReport], object] | None = None,
) -> ImportReport:
    """Store the states of another storage, with their data.

    Safe while the bot runs, since each record is written under its lock. Run an interrupted import again: what it
    already imported is kept.

    Args:
        storage: the target, as returned by `setup_fsm`.
        entries: the source, such as `aiogram_fsm.entries(url)` or `telebot_states.pickle_entries(path)`.
        bot_id: the id of the bot, if the keys do not contain it; aiogram's do not by default.
        on_existing: `"keep"` states that exist already, or `"replace"` them.
        dry_run: store nothing, and report what would be stored and what would fail.
        progress: called periodically with the report so far.

    Returns:
        How many entries were imported, and which could not be, and why.

    Raises:
        StorageUnavailableError: the storage cannot be reached; run the import again when it can.
        SessionError: the source cannot be read.

    Examples:
        >>> from chatsession.importers import aiogram_fsm, import_states
        >>> from chatsession.integrations.aiogram import SessionFSMStorage
        >>> async def move_in(storage: SessionFSMStorage) -> None:
        ...     report = await import_states(storage, aiogram_fsm.entries("redis://localhost"), bot_id=42)
        ...     print(report.imported, report.failures)
    """

    def key(entry: Entry) -> str | None:
        bot = entry.bot_id if entry.bot_id is not None else bot_id
        if entry.chat_id is None or entry.user_id is None or (bot is None and entry.kind == "fsm"):
            return None
        return storage.key_of_ids(
            bot_id=bot,
            chat_id=entry.chat_id,
            user_id=entry.user_id,
            thread_id=entry.thread_id,
            business_connection_id=entry.business_connection_id,
            destiny=entry.destiny,
        )

    def convert(entry: Entry) -> StateRecord | None:
        record = StateRecord.of_json(entry.state, plain(entry.data or {}, entry.origin))
        return None if record.empty else record

    return await import_into(
        storage.sessions,
        entries,
        convert=convert,
        key=key,
        on_existing=on_existing,
        dry_run=dry_run,
        progress=progress,
    )
