"""`check` and `sweep`: what is wrong, and what may be deleted."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from chatsession.cli._diagnosis import Finding, examine, moved_to
from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._progress import progress, total_of
from chatsession.cli._running import FOUND, command, opened
from chatsession.cli._scope import scope
from chatsession.cli._screen import counted, emit, note, safe, say
from chatsession.cli.rewriting import manager_named
from chatsession.errors import shown
from chatsession.maintenance import Scope, pages, scope_of, set_aside
from chatsession.manager import SessionManager
from chatsession.storages import Record, Storage
from chatsession.storages.inspection import CountsExpired, ListsLocks, ListsUnreadable

_SWEPT_AT_ONCE = 1000
_MOST_LOCKS = 10_000
_MOST_UNREADABLE = 1000


@command
async def check(
    url: Url,
    prefix: Prefix = None,
    sessions: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="The bot's SessionManager: check its type, migrations and keys, too."),
    ] = None,
    as_json: AsJson = False,
) -> int | None:
    """Find sessions that do not decode, are torn, orphaned, set aside or expired. Changes nothing."""
    manager = None if sessions is None else manager_named(sessions)
    found: Counter[str] = Counter()
    seen = 0
    async with opened(url) as storage:
        covered = await scope(storage, prefix)
        own = Scope() if manager is None else await scope_of(storage, manager.runtime.prefix)
        with progress("checking", await total_of(storage, covered)) as show:
            async for entries, _ in pages(storage, covered):
                seen += len(entries)
                for finding in await _findings(storage, entries, manager, own):
                    found[finding.trouble] += 1
                    _tell(finding, as_json)
                show(seen)
        aside = [Finding(key, "quarantined", why) async for key, why in set_aside(storage, covered)]
        for finding in aside + await _orphaned_locks(storage, covered):
            found[finding.trouble] += 1
            _tell(finding, as_json)
        if isinstance(storage, ListsUnreadable):
            for fact in await storage.list_unreadable(_MOST_UNREADABLE):
                found["torn"] += 1
                _tell(Finding(fact.name, "torn", fact.value), as_json)
        if isinstance(storage, CountsExpired) and (expired := await storage.count_expired()):
            found["expired"] += expired
            takes = "takes" if expired == 1 else "take"
            note(f"{counted(expired, 'expired session')} still {takes} room; sweep removes what has expired")
    summary = ", ".join(f"{number:,} {what}" for what, number in sorted(found.items())) or "all is well"
    note(f"looked at {counted(seen, 'session')}: {summary}")
    return FOUND if set(found) - {"expired"} else None


@command
async def sweep(url: Url, as_json: AsJson = False) -> None:
    """Delete what has expired, in small steps. (A running bot does this too.)"""
    swept = 0
    async with opened(url) as storage:
        with progress("sweeping") as show:
            while now := await storage.sweep(_SWEPT_AT_ONCE):
                swept += now
                show(swept)
    if as_json:
        emit({"swept": swept})
    else:
        note(f"removed {counted(swept, 'expired session')}")


async def _findings(
    storage: Storage, entries: list[tuple[str, Record]], manager: SessionManager[Any] | None, own: Scope
) -> list[Finding]:
    now = storage.now()
    examined = (examine(key, record.value, manager if own.covers(key) else None, now) for key, record in entries)
    found = [finding for finding in examined if finding is not None]
    moves = {key: target for key, record in entries if (target := moved_to(record.value)) is not None}
    if not moves:
        return found
    targets = list(dict.fromkeys(moves.values()))
    stored = dict(zip(targets, await storage.read_many(targets), strict=True))
    why = "its chat has moved, and there is no session under the new key; rm it if the chat is gone"
    return found + [Finding(key, "orphaned", why) for key, target in moves.items() if stored[target] is None]


async def _orphaned_locks(storage: Storage, covered: Scope) -> list[Finding]:
    if not isinstance(storage, ListsLocks):
        return []
    locks = await storage.list_locks(covered.prefix, _MOST_LOCKS)
    return [
        Finding(lock.key, "orphaned", f"its lock is held by {lock.holder}, which is dead; the next update gets it")
        for lock in locks
        if lock.dead and covered.covers(lock.key)
    ]


def _tell(finding: Finding, as_json: bool) -> None:
    if as_json:
        emit(finding._asdict())
    else:
        say(f"{finding.trouble:<12} {safe(shown(finding.key))}: {safe(finding.why)}")
