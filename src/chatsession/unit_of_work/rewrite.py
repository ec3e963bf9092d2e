"""Rewrites all stored sessions in their current form: migrated, and encrypted with the newest key."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatsession.errors import SessionConflictError, SessionError, SessionMigrationError
from chatsession.serialization.pipeline import Unpacked
from chatsession.unit_of_work.locked_key import LockedKey, locked_key
from chatsession.unit_of_work.prefixes import is_foreign, longer_prefixes
from chatsession.unit_of_work.runtime import RESERVED, Runtime

_PAGE = 200
_MOST_FAILURES = 1000


@dataclass
class RewriteReport:
    """What `SessionManager.rewrite` did, or would do.

    Attributes:
        seen: how many sessions were examined.
        rewritten: how many were (or, in a dry run, would be) rewritten.
        failures: key and reason of the first thousand that could not be rewritten; they are left as they are.
        reasons: how many failed, by kind of error.
        cursor: where to continue after an interruption, as `resume=`; `None` at the end.
    """

    seen: int = 0
    rewritten: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reasons: Counter[str] = field(default_factory=Counter[str])
    cursor: str | None = None

    @property
    def failed(self) -> int:
        """How many sessions could not be rewritten."""
        return self.reasons.total()

    def fail(self, key: str, error: SessionError) -> None:
        """Count a session that could not be rewritten."""
        self.reasons[type(error).__name__] += 1
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append((key, str(error)))


async def rewrite_all(
    runtime: Runtime[Any], *, dry_run: bool, resume: str | None, progress: Callable[[RewriteReport], object] | None
) -> RewriteReport:
    """See `SessionManager.rewrite`."""
    report = RewriteReport(cursor=resume)
    await runtime.enter_loop()
    others = await longer_prefixes(runtime.coordinator.storage, runtime.prefix)
    while True:
        page, cursor = await runtime.coordinator.storage.scan(runtime.prefix, report.cursor, _PAGE)
        keys = [key for key, _ in page if not key.startswith(RESERVED) and not is_foreign(key, others)]
        values = {key: record.value for key, record in page}
        outdated = [key for key in keys if _is_outdated(runtime, key, values[key], report)]
        report.seen += len(keys)
        if dry_run:
            report.rewritten += len(outdated)
        else:
            await asyncio.gather(*(_rewrite(runtime, key, report) for key in outdated))
        report.cursor = cursor
        if progress is not None:
            progress(report)
        if cursor is None:
            return report


def _is_outdated(runtime: Runtime[Any], key: str, stored: bytes, report: RewriteReport) -> bool:
    try:
        unpacked = _current(runtime, key, stored)
    except SessionError as error:
        report.fail(key, error)
        return False
    return unpacked is not None and unpacked.outdated


def _current(runtime: Runtime[Any], key: str, stored: bytes) -> Unpacked | None:
    """What is stored, unpacked and migrated. Raises if it does not fit the type."""
    unpacked = runtime.serializer.unpack(key, stored)
    if unpacked is None or not unpacked.empty:
        runtime.serializer.loads(key, stored if unpacked is None else unpacked.data)
    pipeline = runtime.serializer.pipeline
    if unpacked is not None and unpacked.outdated and pipeline is not None:
        dropped = pipeline.would_drop(key, stored)
        if dropped is not None:
            raise SessionMigrationError(
                f"its migrations would drop `{dropped}`, which they neither read nor pass on; it is left as it is "
                "(is it another manager's session? to drop a field, remove it by pop())",
                key=key,
            )
    return unpacked


async def _rewrite(runtime: Runtime[Any], key: str, report: RewriteReport) -> None:
    try:
        async with locked_key(runtime, key) as locked:
            rewritten = await _put_current(runtime, locked)
        report.rewritten += rewritten
    except SessionConflictError:  # the session was written meanwhile, in its current form
        pass
    except SessionError as error:
        report.fail(key, error)


async def _put_current(runtime: Runtime[Any], locked: LockedKey) -> bool:
    record = locked.record
    unpacked = None if record is None else _current(runtime, locked.key, record.value)
    if record is None or unpacked is None or not unpacked.outdated:
        return False
    stored = runtime.serializer.pack(locked.key, None if unpacked.empty else unpacked.data, unpacked, None)
    expires_at = record.expires_at  # a rewrite is not an access
    ttl = None if expires_at is None else max(expires_at - runtime.coordinator.storage.now(), 0.001)
    await locked.put(stored, ttl)
    return True
