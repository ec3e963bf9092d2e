"""`migrate` and `rotate-keys`: all sessions in their newest form, by the bot's own manager."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from typing import Annotated, Any

import typer

from chatsession.cli._options import AsJson, DryRun
from chatsession.cli._progress import resumable
from chatsession.cli._running import FOUND, USAGE, CommandError, command
from chatsession.cli._screen import counted, emit, note
from chatsession.importers import StateStorage
from chatsession.manager import SessionManager

Sessions = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The bot's SessionManager, as in bot:sessions.")]
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


def manager_named(path: str) -> SessionManager[Any]:
    """Import a manager, `module:name`, from the working directory too."""
    found = _imported(path)
    if not isinstance(found, SessionManager):
        raise CommandError(USAGE, f"{path} is a {type(found).__name__}, and not a SessionManager")
    return found  # pyright: ignore[reportUnknownVariableType] - of any kind of session


def manager_or_states_named(path: str) -> SessionManager[Any] | StateStorage:
    """As `manager_named`, or the storage that a bot's `setup_fsm` gave."""
    found: Any = _imported(path)
    if hasattr(found, "key_of_ids") and isinstance(getattr(found, "sessions", None), SessionManager):
        return found
    return manager_named(path)


def application_named(path: str) -> Any:
    """Import an application of python-telegram-bot for which `setup_persistence` was called."""
    found: Any = _imported(path)
    if not hasattr(getattr(found, "persistence", None), "conversations"):
        kind = type(found).__name__
        raise CommandError(USAGE, f"{path} is a {kind}, for which setup_persistence() was not called")
    return found


def _imported(path: str) -> object:
    module, _, name = path.partition(":")
    if not module or not name:
        raise CommandError(USAGE, "name the bot's SessionManager as module:name, such as bot:sessions")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise CommandError(USAGE, f"{path} cannot be imported: {error}") from None


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
