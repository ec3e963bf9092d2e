"""`check` and `sweep`: what is wrong, and what may be deleted."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from chatsession.cli._bot import manager_named
from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._progress import progress, total_of
from chatsession.cli._running import FOUND, command
from chatsession.cli._screen import counted, emit, note, safe, say, tell
from chatsession.cli._storage import opened, scope
from chatsession.diagnosis import Finding, examine_all
from chatsession.errors import shown
from chatsession.storages.inspection import CountsExpired

_SWEPT_AT_ONCE = 1000


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
        with progress("checking", await total_of(storage, covered)) as show:
            async for number, findings in examine_all(storage, covered, manager):
                seen += number
                found.update(finding.trouble for finding in findings)
                for finding in findings:
                    _tell(finding, as_json)
                show(seen)
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
    tell(as_json, {"swept": swept}, f"removed {counted(swept, 'expired session')}")


def _tell(finding: Finding, as_json: bool) -> None:
    if as_json:
        emit(finding._asdict())
    else:
        say(f"{finding.trouble:<12} {shown(finding.key)}: {safe(finding.why)}")
