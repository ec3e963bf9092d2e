"""`move-in`: the data of another library becomes the sessions of a bot's manager."""

from __future__ import annotations

from collections.abc import AsyncIterable
from enum import Enum
from typing import Annotated

import typer

from chatsession.cli._bot import Sessions, application_named, manager_or_states_named
from chatsession.cli._options import AsJson, DryRun, Replace
from chatsession.cli._progress import progress
from chatsession.cli._running import FOUND, command
from chatsession.cli._screen import counted, emit, note
from chatsession.importers import Entry, ImportReport, grammy, import_into, import_states, ptb, telebot_states
from chatsession.manager import SessionManager


class Origin(Enum):
    """What can be imported."""

    PTB = "ptb"
    PTB_USER_DATA = "ptb-user-data"
    PTB_CHAT_DATA = "ptb-chat-data"
    PTB_BOT_DATA = "ptb-bot-data"
    AIOGRAM = "aiogram"
    AIOGRAM_MONGO = "aiogram-mongo"
    TELEBOT_PICKLE = "telebot-pickle"
    TELEBOT_REDIS = "telebot-redis"
    GRAMMY_FILES = "grammy-files"
    GRAMMY_REDIS = "grammy-redis"
    GRAMMY_POSTGRES = "grammy-postgres"
    GRAMMY_MONGO = "grammy-mongo"


_ORIGINS = ", ".join(origin.value for origin in Origin)


@command
async def move_in(
    sessions: Sessions,
    origin: Annotated[
        Origin, typer.Argument(metavar="ORIGIN", show_choices=False, help=f"What kind of data: {_ORIGINS}.")
    ],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file or folder, or the URL of a server.")],
    replace: Replace = False,
    dry_run: DryRun = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="Classes of objects in a pickle that become dicts, as in myapp.models.*")
    ] = None,
    bot_id: Annotated[int | None, typer.Option(help="The bot whose states these are, if their keys lack it.")] = None,
    as_json: AsJson = False,
) -> int | None:
    """Import data of aiogram, grammY, python-telegram-bot or pyTelegramBotAPI as the bot's own sessions.

    States become states if the name is that of a storage which setup_fsm() gave, as in bot:states.

    Data of ptb becomes what setup_persistence() keeps; the name is that of the application, as in bot:application.
    """
    on_existing = "replace" if replace else "keep"
    with progress("importing") as show:

        def report_so_far(report: ImportReport) -> None:
            show(report.seen)

        if origin is Origin.PTB:
            from chatsession.importers import ptb_persistence  # needs python-telegram-bot

            report = await ptb_persistence.import_pickle(
                application_named(sessions),
                source,
                allow=allow or [],
                on_existing=on_existing,
                dry_run=dry_run,
                progress=report_so_far,
            )
        elif isinstance(found := manager_or_states_named(sessions), SessionManager):
            entries = _entries(origin, source, allow or [])
            async with found:
                report = await import_into(
                    found, entries, on_existing=on_existing, dry_run=dry_run, progress=report_so_far
                )
        else:
            entries = _entries(origin, source, allow or [])
            async with found.sessions:
                report = await import_states(
                    found, entries, bot_id=bot_id, on_existing=on_existing, dry_run=dry_run, progress=report_so_far
                )
    counts = {name: getattr(report, name) for name in ("seen", "imported", "existing", "skipped", "failed")}
    if as_json:
        failures = [{"origin": origin, "why": why} for origin, why in report.failures]
        emit({**counts, "failures": failures, "left_behind": dict(report.left_behind)})
        return FOUND if report.failed else None
    for where, why in report.failures:
        note(f"{where}: {why}", "red")
    for what, times in report.left_behind.items():
        note(f"left behind ({times:,}×): {what}", "yellow")
    would = "would be " if dry_run else ""
    note(
        f"{would}imported: {report.imported:,} of {counted(report.seen, 'entry', 'entries')}; "
        f"already there: {report.existing:,}; cannot be: {report.failed:,}"
    )
    return FOUND if report.failed else None


def _entries(origin: Origin, source: str, allow: list[str]) -> AsyncIterable[Entry]:
    match origin:
        case Origin.PTB:
            raise AssertionError("its entries become several kinds of records")
        case Origin.PTB_USER_DATA:
            return ptb.entries(source, "user_data", allow=allow)
        case Origin.PTB_CHAT_DATA:
            return ptb.entries(source, "chat_data", allow=allow)
        case Origin.PTB_BOT_DATA:
            return ptb.entries(source, "bot_data", allow=allow)
        case Origin.AIOGRAM:
            from chatsession.importers import aiogram_fsm  # needs redis-py, which all other commands do without

            return aiogram_fsm.entries(source)
        case Origin.AIOGRAM_MONGO:
            from chatsession.importers import aiogram_mongo  # needs pymongo

            return aiogram_mongo.entries(source)
        case Origin.TELEBOT_PICKLE:
            return telebot_states.pickle_entries(source, allow=allow)
        case Origin.TELEBOT_REDIS:
            return telebot_states.redis_entries(source)
        case Origin.GRAMMY_FILES:
            return grammy.file_entries(source)
        case Origin.GRAMMY_REDIS:
            return grammy.redis_entries(source)
        case Origin.GRAMMY_POSTGRES:
            return grammy.postgres_entries(source)
        case Origin.GRAMMY_MONGO:
            return grammy.mongo_entries(source)
