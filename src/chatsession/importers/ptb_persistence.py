"""Imports python-telegram-bot's `PicklePersistence` into `setup_persistence`, with conversations and buttons.

Nothing in a pickle is executed or imported.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from chatsession.errors import SessionError
from chatsession.importers._entries import Entry
from chatsession.importers._importing import ImportReport, OnExisting, import_into
from chatsession.importers._pickles import Plain
from chatsession.importers._unpickling import PickleError
from chatsession.importers.ptb import PARTS, pairs_in, read_parts
from chatsession.integrations.telegram_ext import SessionPersistence  # which says what to install
from chatsession.serialization.codec import CodecError, JsonCodec

if TYPE_CHECKING:
    from telegram.ext import Application

__all__ = ["import_pickle"]

_UNTYPED = dict[str, Any]
_UNTYPED_CODEC = JsonCodec[dict[str, Any]](_UNTYPED)


async def import_pickle(
    application: Application[Any, Any, Any, Any, Any, Any],
    path: str | os.PathLike[str],
    *,
    single_file: bool | None = None,
    allow: Sequence[str] = (),
    on_existing: OnExisting = "keep",
    dry_run: bool = False,
    progress: Callable[[ImportReport], object] | None = None,
) -> ImportReport:
    """Import what an application kept in a `PicklePersistence`.

    Stop the old bot first: it writes its file in place, and keeps what is newer in memory. Run an interrupted import
    again: what it already imported is kept. Each user and each chat is one entry of the report.

    Args:
        application: with `setup_persistence` and its handlers, which determine to whom the states of conversations
            belong. It need not be initialized.
        path: the `filepath` of the `PicklePersistence`.
        single_file: as given to the `PicklePersistence`; `None`: detect it.
        allow: patterns of class names, as of `chatsession.importers.ptb.entries`.
        on_existing: `"keep"` what exists already, or `"replace"` it.
        dry_run: store nothing, and report what would be stored and what would fail.
        progress: called periodically with the report of the part that is being imported.

    Returns:
        How many entries were imported, and which could not be, and why.

    Raises:
        ValueError: `setup_persistence` was not called for the application.
        SessionError: the file cannot be read, or is not what a `PicklePersistence` writes.

    Examples:
        >>> from telegram.ext import Application
        >>> from chatsession.importers.ptb_persistence import import_pickle
        >>> async def move_in(application: Application) -> None:
        ...     report = await import_pickle(application, "conversationbot", dry_run=True)
        ...     print(report.imported, report.failures, report.left_behind)
    """
    persistence = application.persistence
    if not isinstance(persistence, SessionPersistence):
        raise ValueError("import_pickle needs an application for which setup_persistence was called")
    persistence.know(application)
    parts = await asyncio.to_thread(read_parts, Path(path), PARTS, single_file)
    reading = _Reading(persistence, Plain(allow), parts)
    whole = ImportReport()
    user = object()
    await persistence.start(user)
    try:
        for name, entries in (
            ("persistence", reading.ids()),
            ("bot_data", reading.bot_data()),
            ("callback_data", reading.keyboards()),
        ):
            manager = persistence.managers[name]
            report = await import_into(manager, entries, on_existing=on_existing, dry_run=dry_run, progress=progress)
            _add(whole, report)
    finally:
        await persistence.release(user=user)
    return whole


class _Reading:
    """The parts of a pickle, as entries of the records that they become."""

    def __init__(self, persistence: SessionPersistence, plain: Plain, parts: dict[str, object]) -> None:
        self._persistence = persistence
        self._plain = plain
        self._parts = parts
        self._records: dict[object, dict[str, Any]] = {}
        self._problems: dict[object, str] = {}

    async def ids(self) -> AsyncGenerator[Entry]:
        """An entry for each user and chat."""
        for kind in ("user_data", "chat_data"):
            for id_, data in self._pairs(kind):
                self._put(id_, kind, data)
        for name, states in self._pairs("conversations"):
            for key, state in _pairs(states):
                if (note := self._put_state(name, key, state)) is not None:
                    yield Entry(origin="conversations", kind="conversations", note=note)
        scope = self._persistence.scope
        for number, (id_, record) in enumerate(self._records.items()):
            problem = self._problems.get(id_)
            if record or problem:
                key = f"{scope}{id_}"
                yield Entry(origin=f"id {id_}", kind="id", key=key, data=record, problem=problem)
            if number % 100 == 0:
                await asyncio.sleep(0)

    async def bot_data(self) -> AsyncGenerator[Entry]:
        """The entry of the bot."""
        data = self._parts.get("bot_data")
        if data is None:
            return
        key = f"{self._persistence.scope}data"
        try:
            if made := self._plain(data):
                self._check("bot_data", made)
                yield Entry(origin="bot_data", kind="bot_data", key=key, data=made)
        except (PickleError, CodecError) as error:
            yield Entry(origin="bot_data", kind="bot_data", problem=str(error))

    async def keyboards(self) -> AsyncGenerator[Entry]:
        """An entry for each keyboard that was sent."""
        try:
            given: Any = self._parts.get("callback_data")
            data: Any = self._plain(given) if given else ([], {})
            for uuid, sent_at, buttons in data[0]:
                yield Entry(
                    origin="callback_data",
                    kind="callback_data",
                    key=str(uuid),
                    data={"sent_at": sent_at, "buttons": buttons},
                )
        except (PickleError, TypeError, ValueError, LookupError) as error:
            yield Entry(origin="callback_data", kind="callback_data", problem=str(error))

    def _put(self, id_: object, kind: str, data: object) -> None:
        record = self._records.setdefault(id_, {})
        if not isinstance(id_, int):
            self._problems[id_] = "its id is not a number"
            return
        try:
            if (made := self._plain(data)) not in (None, {}):
                self._check(kind, made)
                record[kind] = made
        except (PickleError, CodecError) as error:
            self._problems[id_] = f"{kind}: {error}"

    def _check(self, kind: str, data: object) -> None:
        """Raise `CodecError` if data without a special type would not come back from JSON unchanged."""
        if self._persistence.types.get(kind) == _UNTYPED:
            _UNTYPED_CODEC.encode(cast("dict[str, Any]", data))

    def _put_state(self, name: object, key: object, state: object) -> str | None:
        """Add the state of a conversation to the record of its user or chat. Returns a note if it cannot be added."""
        try:
            made: Any = self._plain(key)
            plain_state = self._plain(state)
            if not isinstance(name, str) or not isinstance(made, tuple) or not made:
                return "states of conversations under keys that are not a conversation's"
            if not isinstance(plain_state, (int, str)):
                return f"states of the conversation {name!r} that are neither str nor int"
            id_ = self._persistence.conversations.states(name).home(cast("tuple[int | str, ...]", made))
        except PickleError as error:
            return f"states of the conversation {name!r}: {error}"
        except (SessionError, IndexError):
            return f"states of the conversation {name!r}, which the application does not have"
        record = self._records.setdefault(id_, {})
        states = record.setdefault("conversations", {}).setdefault(name, {})
        states[msgspec.json.encode(made).decode()] = plain_state
        return None

    def _pairs(self, part: str) -> list[tuple[Any, Any]]:
        return _pairs(self._parts.get(part))


def _pairs(value: object) -> list[tuple[Any, Any]]:
    try:
        return pairs_in(value)
    except PickleError as error:
        raise SessionError(f"the pickle {error}") from None


def _add(whole: ImportReport, report: ImportReport) -> None:
    whole.seen += report.seen
    whole.imported += report.imported
    whole.existing += report.existing
    whole.skipped += report.skipped
    whole.failures += report.failures
    whole.reasons.update(report.reasons)
    whole.left_behind.update(report.left_behind)
