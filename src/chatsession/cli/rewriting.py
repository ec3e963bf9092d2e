"""`migrate` and `rotate-keys`: all sessions in their newest form, by the bot's own manager."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chatsession.cli._bot import Sessions, manager_named
from chatsession.cli._options import AsJson, DryRun
from chatsession.cli._progress import resumable
from chatsession.cli._running import FOUND, USAGE, CommandError, command
from chatsession.cli._screen import counted, emit, note
from chatsession.manager import SessionManager

Resume = Annotated[str | None, typer.Option("--resume-after", help="Continue after a stop.")]


@command
async def migrate(
    sessions: Sessions, dry_run: DryRun = False, resume_after: Resume = None, as_json: AsJson = False
) -> int | None:
    """Store all sessions in their newest version, by the bot's own migrations, while it runs."""
    return await _rewrite(manager_named(sessions), dry_run, resume_after, as_json, "migrating")


@command
async def rotate_keys(
    sessions: Sessions, dry_run: DryRun = False, resume_after: Resume = None, as_json: AsJson = False
) -> int | None:
    """Encrypt all sessions with the newest of the bot's encryption keys, while it runs."""
    manager = manager_named(sessions)
    if not manager.options.encryption_keys:
        raise CommandError(USAGE, f"{sessions} has no encryption_keys; put the new key first among them")
    return await _rewrite(manager, dry_run, resume_after, as_json, "encrypting")


async def _rewrite(
    manager: SessionManager[Any], dry_run: bool, resume: str | None, as_json: bool, what: str
) -> int | None:
    async with manager:
        with resumable(what, resume) as show:
            report = await manager.rewrite(dry_run=dry_run, resume=resume, progress=show)
    if as_json:
        failures = [{"key": key, "why": why} for key, why in report.failures]
        counts = {"seen": report.seen, "rewritten": report.rewritten, "failed": report.failed}
        emit({**counts, "failures": failures, "cursor": report.cursor})
    else:
        for _, why in report.failures:
            note(why, "red")
        would = "would be " if dry_run else ""
        note(
            f"{would}rewritten: {report.rewritten:,} of {counted(report.seen, 'session')}; cannot be: {report.failed:,}"
        )
    return FOUND if report.failed else None
