"""All stored sessions in the form of today: migrated, and encrypted with the newest key."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatsession.errors import SessionConflictError, SessionError
from chatsession.serialization.pipeline import Unpacked
from chatsession.unit_of_work.locked_key import Held, holding
from chatsession.unit_of_work.runtime import ASIDE, Runtime

_PAGE = 200
_MOST_FAILURES = 1000


@dataclass
class RewriteReport:
    """What `SessionManager.rewrite` did, or would do.

    Attributes:
        seen: sessions looked at.
        rewritten: those that were (or, in a dry run, would be) stored anew.
        failures: key and reason of those that could not be, the first thousand; they are left as they are.
        reasons: how many failed with which kind of error.
        cursor: where a run that was interrupted goes on, as `resume=`; `None` after the last one.
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
    plan: Runtime[Any], *, dry_run: bool, resume: str | None, progress: Callable[[RewriteReport], object] | None
) -> RewriteReport:
    """See `SessionManager.rewrite`."""
    report = RewriteReport(cursor=resume)
    if not plan.running:
        await plan.admit()
    while True:
        page, cursor = await plan.coordinator.storage.scan(plan.prefix, report.cursor, _PAGE)
        keys = [key for key, _ in page if not key.startswith(ASIDE)]
        values = {key: record.value for key, record in page}
        outdated = [key for key in keys if _is_outdated(plan, key, values[key], report)]
        report.seen += len(keys)
        if dry_run:
            report.rewritten += len(outdated)
        else:
            await asyncio.gather(*(_rewrite(plan, key, report) for key in outdated))
        report.cursor = cursor
        if progress is not None:
            progress(report)
        if cursor is None:
            return report


def _is_outdated(plan: Runtime[Any], key: str, stored: bytes, report: RewriteReport) -> bool:
    try:
        opened = _current(plan, key, stored)
    except SessionError as error:
        report.fail(key, error)
        return False
    return opened is not None and opened.stale


def _current(plan: Runtime[Any], key: str, stored: bytes) -> Unpacked | None:
    """What is stored, up to date; raises if it does not fit the type."""
    opened = plan.opened(key, stored)
    if opened is None or not opened.vacant:
        plan.decode(key, stored if opened is None else opened.data)
    return opened


async def _rewrite(plan: Runtime[Any], key: str, report: RewriteReport) -> None:
    try:
        async with holding(plan, key) as held:
            rewritten = await _put_anew(plan, held)
        report.rewritten += rewritten
    except SessionConflictError:  # a session was written meanwhile, and in the form of today
        pass
    except SessionError as error:
        report.fail(key, error)


async def _put_anew(plan: Runtime[Any], held: Held) -> bool:
    record = held.record
    opened = None if record is None else _current(plan, held.key, record.value)
    if record is None or opened is None or not opened.stale:
        return False
    stored, _ = plan.sealed(held.key, None if opened.vacant else opened.data, opened, None)
    expires_at = record.expires_at  # which stays: nobody has used the session
    ttl = None if expires_at is None else max(expires_at - plan.coordinator.storage.now(), 0.001)
    await held.put(stored, ttl)
    return True
