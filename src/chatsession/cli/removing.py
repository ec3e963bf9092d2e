"""`rm`, also named `delete`: sessions by their keys, or all with a prefix."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from chatsession.cli._options import AsJson, Prefix, Url, Yes
from chatsession.cli._progress import progress
from chatsession.cli._running import FOUND, MISSING, USAGE, CommandError, command, confirm
from chatsession.cli._screen import counted, emit, note, tell
from chatsession.cli._storage import opened, says_it_waits, scope
from chatsession.errors import SessionError, shown
from chatsession.maintenance import Maintenance, Scope, count, key_pages
from chatsession.storages import Storage
from chatsession.storages.inspection import size_text

_AT_ONCE = 100


@command
async def rm(
    url: Url,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]…", help="Their keys, with the prefix.")] = None,
    prefix: Prefix = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int | None:
    """Delete sessions, each after the update that is running for it."""
    if bool(keys) == (prefix is not None):
        raise CommandError(USAGE, "name either keys or a --prefix")
    if "" in (keys or []):
        raise CommandError(USAGE, "a key has at least one character; nothing was deleted")
    async with opened(url) as storage:
        if keys:
            return await _remove(storage, keys, as_json)
        return await _remove_all(storage, await scope(storage, prefix), yes, as_json)


async def _remove(storage: Storage, keys: list[str], as_json: bool) -> int | None:
    missing = False
    async with Maintenance(storage) as maintenance:
        for key in keys:
            with says_it_waits(key):
                removed = await maintenance.change(key, None)
            missing = missing or removed is None
            if as_json:
                emit({"key": key, "removed": removed is not None})
            elif removed is None:
                note(f"there is no session {shown(key)}", "red")
            else:
                note(f"deleted {shown(key)} ({size_text(len(removed.value))})")
    return MISSING if missing else None


async def _remove_all(storage: Storage, covered: Scope, yes: bool, as_json: bool) -> int | None:
    total = await count(storage, covered)
    if total and not yes:
        doomed = f"{counted(total, 'session')} whose keys begin with {shown(covered.prefix)}"
        confirm(f"Delete {doomed}?", f"this deletes {doomed}")
    removed = failed = 0
    with progress("deleting", total) as show:
        async with Maintenance(storage) as maintenance:
            async for keys, _ in key_pages(storage, covered, limit=_AT_ONCE):
                changes = (maintenance.change(key, None) for key in keys)
                for outcome in await asyncio.gather(*changes, return_exceptions=True):
                    if isinstance(outcome, SessionError) and outcome.key is not None:
                        failed += 1
                        note(str(outcome), "red")
                    elif isinstance(outcome, BaseException):
                        raise outcome
                    else:
                        removed += outcome is not None
                show(removed + failed)
    left = f", and left {failed:,}" if failed else ""
    tell(as_json, {"removed": removed, "failed": failed}, f"deleted {counted(removed, 'session')}{left}")
    return FOUND if failed else None
