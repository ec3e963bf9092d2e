"""Copies sessions from one storage to another, or from a file, while bots use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

import msgspec

from chatsession.errors import SessionError
from chatsession.maintenance import Maintenance, is_mark, pages, scope_of
from chatsession.storages import Record, Storage

_MOST_TROUBLES = 100

Existing = Literal["keep", "replace"]


@dataclass
class CopyReport:
    """The result of a copy, or its progress."""

    written: int = 0
    """Sessions that were written to the target."""
    same: int = 0
    """Sessions that the target already had, with the same data."""
    kept: int = 0
    """Sessions that were not copied because the target has another one under the key (see `existing`)."""
    expired: int = 0
    """Sessions that expired before they were copied."""
    failed: int = 0
    bytes: int = 0
    """The size of all sessions that were examined."""
    troubles: list[str] = field(default_factory=list[str])
    """Why sessions failed: the first 100 reasons."""
    cursor: str | None = None
    """Where to continue after an interruption, as `resume_after`; `None`: at the beginning, or everything is done."""
    done: bool = False

    @property
    def seen(self) -> int:
        """All sessions that were examined."""
        return self.written + self.same + self.kept + self.expired + self.failed


async def copy(
    source: Storage,
    target: Storage,
    *,
    prefix: str | None = None,
    dry_run: bool = False,
    resume_after: str | None = None,
    progress: Callable[[CopyReport], object] | None = None,
    existing: Existing = "keep",
) -> CopyReport:
    """Copy sessions as stored, with their remaining time to live. Bots may use both storages meanwhile.

    Each copied session is the result of one commit in the source. It is written under the key's lock, so that no
    update on the target is lost. Copying again writes only what differs, so that a bot can be moved almost without
    downtime: copy while it runs, stop it, copy again with `existing="replace"`, and start it on the target. Sessions
    that were deleted in the source after they were copied stay in the target.

    Args:
        source: only read.
        target: may be in use.
        prefix: copy the sessions of the manager with this prefix; `None`: all sessions.
        dry_run: write nothing, and report what would be written.
        resume_after: the `cursor` in the report of an interrupted copy.
        progress: called with the report after each page.
        existing: what to do if the target has something else under a key: `"keep"` or `"replace"` it.

    Returns:
        The report. A session that differs only in its time to live counts as the same.

    Raises:
        StorageError: one of the storages failed. What was written is complete; continue with `resume_after`.

    Examples:
        >>> import asyncio
        >>> from chatsession import MemoryStorage, SessionManager
        >>> from chatsession.copying import copy
        >>> async def main() -> int:
        ...     old, new = MemoryStorage(), MemoryStorage()
        ...     await SessionManager(int, storage=old).update("424242", lambda count: count + 1)
        ...     return (await copy(old, new)).written
        >>> asyncio.run(main())
        1
    """
    report = CopyReport(cursor=resume_after)
    async with Writer(target, report, existing=existing, dry_run=dry_run) as writer:
        async for entries, cursor in pages(source, await scope_of(source, prefix), resume_after):
            ahead = target.now() - source.now()  # seconds; each storage measures expiry by its own clock
            await writer.put_all((key, record.value, _later(record.expires_at, ahead)) for key, record in entries)
            report.cursor = cursor
            if progress is not None:
                progress(report)
    report.done = True
    return report


class Writer:
    """Writes sessions to a storage that may be in use.

    Args:
        storage: the target.
        report: counts the results.
        existing: what to do if something else is stored under a key.
        dry_run: only count.
    """

    def __init__(self, storage: Storage, report: CopyReport, *, existing: Existing, dry_run: bool) -> None:
        self._storage = storage
        self._maintenance = Maintenance(storage)
        self._report = report
        self._replace = existing == "replace"
        self._dry_run = dry_run

    async def __aenter__(self) -> Self:
        await self._maintenance.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._maintenance.__aexit__()

    async def put_all(self, sessions: Iterable[tuple[str, bytes, float | None]]) -> None:
        """Write several sessions, given as key, value and expiry by the target's clock.

        The records of managers' prefixes are left out (`maintenance.is_mark`).
        """
        wanted = {key: (value, expires_at) for key, value, expires_at in sessions if not is_mark(key)}
        stored = await self._read(list(wanted))
        try:
            async with asyncio.TaskGroup() as group:
                for key, (value, expires_at) in wanted.items():
                    self._report.bytes += len(value)
                    if not self._is_settled(key, value, expires_at, stored.get(key)):
                        group.create_task(self._put(key, value, expires_at))
        except BaseExceptionGroup as errors:  # the first tells enough
            raise errors.exceptions[0] from None

    async def _read(self, keys: list[str]) -> dict[str, Record | SessionError | None]:
        found: dict[str, Record | SessionError | None] = {}
        for start in range(0, len(keys), self._storage.batch_size):
            part = keys[start : start + self._storage.batch_size]
            found.update(zip(part, await self._storage.read_many(part), strict=True))
        return found

    def _is_settled(
        self, key: str, value: bytes, expires_at: float | None, stored: Record | SessionError | None
    ) -> bool:
        """Whether a session need not, or must not, be written; it is then counted."""
        report = self._report
        if isinstance(stored, SessionError):
            self._fail(stored)
        elif expires_at is not None and expires_at <= self._storage.now():
            report.expired += 1
        elif stored is not None and same(stored.value, value):
            report.same += 1
        elif stored is not None and not self._replace:
            report.kept += 1
        elif self._dry_run:
            report.written += 1
        else:
            return False
        return True

    async def _put(self, key: str, value: bytes, expires_at: float | None) -> None:
        settled = False

        def is_wanted(stored: Record | None) -> bool:
            nonlocal settled
            settled = self._is_settled(key, value, expires_at, stored)
            return not settled

        try:
            await self._maintenance.change(key, value, seen=is_wanted, expires_at=expires_at)
        except SessionError as error:
            if settled:  # and counted
                return
            if error.key is None:  # it is not about this session alone
                raise
            self._fail(error)
        else:
            self._report.written += 1

    def _fail(self, error: SessionError) -> None:
        self._report.failed += 1
        if len(self._report.troubles) < _MOST_TROUBLES:
            self._report.troubles.append(str(error))


def _later(expires_at: float | None, seconds: float) -> float | None:
    return None if expires_at is None else expires_at + seconds


def same(one: bytes, other: bytes) -> bool:
    """Whether two values are equal, as JSON if possible: some storages do not keep how JSON was written."""
    if one == other:
        return True
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
