"""Stores entries as sessions, each once and under its lock. Entries that cannot be imported are counted and named."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from chatsession.errors import SessionConflictError, SessionError, StorageUnavailableError
from chatsession.importers._entries import Entry
from chatsession.importers._fitting import Fit
from chatsession.manager import SessionManager

T = TypeVar("T")

OnExisting: TypeAlias = Literal["keep", "replace"]

_AT_ONCE = 100
_MOST_FAILURES = 1000
_TRIES = 5


@dataclass
class ImportReport:
    """What `import_into` did, or would do. Holds no data.

    Attributes:
        seen: how many entries were found.
        imported: how many were stored as sessions (or, in a dry run, would be).
        existing: how many were left out because their session exists already.
        skipped: how many were left out by `convert`, which returned `None`.
        failures: origin and reason of the first thousand that could not be imported.
        reasons: how many could not be imported, by kind of reason.
        left_behind: what the sessions cannot hold (paths of fields, aiogram's state), and how often.
    """

    seen: int = 0
    imported: int = 0
    existing: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reasons: Counter[str] = field(default_factory=Counter[str])
    left_behind: Counter[str] = field(default_factory=Counter[str])

    @property
    def failed(self) -> int:
        """How many entries could not be imported."""
        return self.reasons.total()

    def fail(self, origin: str, kind: str, reason: str) -> None:
        """Count an entry that could not be imported."""
        self.reasons[kind] += 1
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append((origin, reason))


async def import_into(
    sessions: SessionManager[T],
    entries: AsyncIterable[Entry],
    *,
    convert: Callable[[Entry], T | None] | None = None,
    key: Callable[[Entry], str | int | None] | None = None,
    on_existing: OnExisting = "keep",
    dry_run: bool = False,
    progress: Callable[[ImportReport], object] | None = None,
) -> ImportReport:
    """Store the data of another library as sessions.

    Safe while the bot runs, since each session is opened under its lock. Run an interrupted import again: sessions
    that it already imported are kept.

    Args:
        sessions: the target.
        entries: the source, such as `chatsession.importers.ptb.entries(…)`.
        convert: returns the session's value, or `None` to leave the entry out. Without it, the entry's data must fit
            the sessions' type as it is.
        key: returns the session key of an entry, without the manager's prefix. Without it, the key is the one that the
            entry had, or the one that the manager's `get_session_key` returns for the entry.
        on_existing: `"keep"` sessions that exist already, or `"replace"` them.
        dry_run: store nothing, and report what would be stored and what would fail.
        progress: called periodically with the report so far.

    Returns:
        How many entries were imported, and which could not be, and why.

    Raises:
        TypeError: there is no `convert`, and the sessions' type cannot be represented in JSON.
        StorageUnavailableError: the storage cannot be reached; run the import again when it can.
        SessionError: the source cannot be read.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.importers import import_into, ptb
        >>> async def move_in(sessions: SessionManager[dict[str, int]]) -> None:
        ...     report = await import_into(sessions, ptb.entries("bot.pickle", "chat_data"), dry_run=True)
        ...     print(report.imported, report.reasons, report.left_behind)
    """
    if on_existing not in ("keep", "replace"):
        raise ValueError(f"on_existing must be 'keep' or 'replace', not {on_existing!r}")
    work = _Import(sessions, convert, key, keep=on_existing == "keep", dry_run=dry_run)
    async with contextlib.aclosing(_batches(entries)) as batches:
        async for batch in batches:
            results = await asyncio.gather(*map(work.take, batch), return_exceptions=True)
            for result in results:
                if result is not None:
                    raise result
            if progress is not None:
                progress(work.report)
    return work.report


class _Import(Generic[T]):
    """One run of an import."""

    def __init__(
        self,
        sessions: SessionManager[T],
        convert: Callable[[Entry], T | None] | None,
        key: Callable[[Entry], str | int | None] | None,
        *,
        keep: bool,
        dry_run: bool,
    ) -> None:
        self.report = ImportReport()
        self._sessions = sessions
        self._convert = convert
        self._key = key
        self._keep = keep
        self._dry_run = dry_run
        self._fit = Fit(sessions.options) if convert is None else None
        self._origins: dict[str, str] = {}
        """The origin of what was imported in this run, by session key."""

    async def take(self, entry: Entry) -> None:
        """Import one entry, or count why it cannot be imported."""
        report = self.report
        if entry.note is not None:
            report.left_behind[entry.note] += 1
            return
        report.seen += 1
        if entry.problem is not None:
            report.fail(entry.origin, entry.problem, entry.problem)
            return
        try:
            await self._bring(entry)
        except StorageUnavailableError:
            raise
        except SessionError as error:
            report.fail(entry.origin, type(error).__name__, str(error))
        except _LeftOut as reason:
            report.fail(entry.origin, str(reason), str(reason))

    async def _bring(self, entry: Entry) -> None:
        key = await self._key_of(entry)
        if self._keep and await self._sessions.get(key) is not None:
            self._count_existing(key, entry)
            return
        value, lost = self._value(key, entry)
        if value is None:
            self.report.skipped += 1
            return
        if self._dry_run:
            self._sessions.runtime.serializer.dumps(key, value, None)
            self._claim(key, entry)
        elif not await self._store(key, entry, value):
            return
        self.report.imported += 1
        self.report.left_behind.update(lost)

    async def _key_of(self, entry: Entry) -> str:
        sessions = self._sessions
        if self._key is not None:
            key = _called("key", self._key, entry)
        elif entry.key is not None:
            key = entry.key
        else:
            full = await sessions.key_of(entry)
            key = None if full is None else full[len(sessions.options.prefix) :]
        if key is None:
            raise _LeftOut("it has no session key: pass key=…, which gives one")
        return str(key)

    def _value(self, key: str, entry: Entry) -> tuple[T | None, list[str]]:
        if self._convert is not None:
            return _called("convert", self._convert, entry), []
        assert self._fit is not None
        value, lost = self._fit.value(key, entry)
        return value, lost if entry.state is None else [*lost, "aiogram's state"]

    async def _store(self, key: str, entry: Entry, value: T) -> bool:
        for tries in range(_TRIES):
            try:
                async with self._sessions.open(key) as session:
                    if self._keep and session.exists:
                        self._count_existing(session.key, entry)
                        return False
                    self._claim(session.key, entry)
                    session.data = value
                return True
            except SessionConflictError:  # another program writes without locking
                if tries == _TRIES - 1:
                    raise
        raise AssertionError

    def _count_existing(self, key: str, entry: Entry) -> None:
        if key in self._origins:
            self._claim(key, entry)
        self.report.existing += 1

    def _claim(self, key: str, entry: Entry) -> None:
        """Raise if another entry, such as another user's in the chat, has the same key and would be overwritten."""
        if self._origins.setdefault(key, entry.origin) != entry.origin:
            raise _LeftOut("another entry has the same session key: pass key=… or convert=…, to tell or choose them")


class _LeftOut(Exception):  # noqa: N818 - no error, and never seen outside
    """Why an entry is not imported; the same text for all entries with the same reason."""


V = TypeVar("V")


def _called(name: str, function: Callable[[Entry], V], entry: Entry) -> V:
    try:
        return function(entry)
    except SessionError:
        raise
    except Exception as error:
        raise _LeftOut(f"{name} raised {type(error).__name__}") from None


async def _batches(entries: AsyncIterable[Entry]) -> AsyncGenerator[list[Entry]]:
    batch: list[Entry] = []
    try:
        async for entry in entries:
            batch.append(entry)
            if len(batch) == _AT_ONCE:
                yield batch
                batch = []
    finally:
        if isinstance(entries, AsyncGenerator):  # its files and connections are not left to the garbage collector
            await entries.aclose()
    if batch:
        yield batch
