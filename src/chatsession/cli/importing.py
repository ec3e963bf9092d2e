"""`move-in`: what another library left behind becomes the sessions of a bot's manager."""

from __future__ import annotations

from collections.abc import AsyncIterable
from enum import Enum
from typing import Annotated

import typer

from chatsession.cli._options import AsJson, DryRun, Replace
from chatsession.cli._progress import progress
from chatsession.cli._running import FOUND, command
from chatsession.cli._screen import emit, note, safe
from chatsession.cli.rewriting import Sessions, manager_named
from chatsession.importers import Entry, grammy, import_into, ptb


class Origin(Enum):
    """What can be brought along."""

    PTB_USER_DATA = "ptb-user-data"
    PTB_CHAT_DATA = "ptb-chat-data"
    PTB_BOT_DATA = "ptb-bot-data"
    AIOGRAM = "aiogram"
    GRAMMY_FILES = "grammy-files"
    GRAMMY_REDIS = "grammy-redis"
    GRAMMY_POSTGRES = "grammy-postgres"


@command
async def move_in(
    sessions: Sessions,
    origin: Annotated[Origin, typer.Argument(help="What lies there.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file or folder, or the URL of a server.")],
    replace: Replace = False,
    dry_run: DryRun = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="Classes of objects in a pickle that become dicts, as in myapp.models.*")
    ] = None,
    as_json: AsJson = False,
) -> int | None:
    """Bring along what python-telegram-bot, aiogram or grammY has stored, as the bot's own sessions."""
    with progress("moving in") as show:
        async with manager_named(sessions) as manager:
            report = await import_into(
                manager,
                _entries(origin, source, allow or []),
                on_existing="replace" if replace else "keep",
                dry_run=dry_run,
                progress=lambda report: show(report.seen),
            )
    counts = {name: getattr(report, name) for name in ("seen", "imported", "existing", "skipped", "failed")}
    if as_json:
        failures = [{"origin": origin, "why": why} for origin, why in report.failures]
        emit({**counts, "failures": failures, "left_behind": dict(report.left_behind)})
        return FOUND if report.failed else None
    for where, why in report.failures:
        note(safe(f"{where}: {why}"), "red")
    for what, times in report.left_behind.items():
        note(safe(f"left behind, {times:,} times: {what}"), "yellow")
    would = "would be " if dry_run else ""
    note(
        f"{report.imported:,} of {report.seen:,} {would}brought along; {report.existing:,} were there already, "
        f"{report.failed:,} cannot be"
    )
    return FOUND if report.failed else None


def _entries(origin: Origin, source: str, allow: list[str]) -> AsyncIterable[Entry]:
    match origin:
        case Origin.PTB_USER_DATA:
            return ptb.entries(source, "user_data", allow=allow)
        case Origin.PTB_CHAT_DATA:
            return ptb.entries(source, "chat_data", allow=allow)
        case Origin.PTB_BOT_DATA:
            return ptb.entries(source, "bot_data", allow=allow)
        case Origin.AIOGRAM:
            from chatsession.importers import aiogram_fsm  # needs redis-py, which all other commands do without

            return aiogram_fsm.entries(source)
        case Origin.GRAMMY_FILES:
            return grammy.file_entries(source)
        case Origin.GRAMMY_REDIS:
            return grammy.redis_entries(source)
        case Origin.GRAMMY_POSTGRES:
            return grammy.postgres_entries(source)
