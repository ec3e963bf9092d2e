"""`locks`: which sessions are locked now, and how to break a lock."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import to_builtins

from chatsession import maintenance
from chatsession.cli._options import AsJson, Prefix, Url, Yes
from chatsession.cli._running import FAILED, MISSING, CommandError, command, confirm
from chatsession.cli._screen import counted, emit, moment, note, remaining, safe, table, tell
from chatsession.cli._storage import opened, scope
from chatsession.errors import shown
from chatsession.storages import Storage
from chatsession.storages.inspection import HeldLock, ListsLocks

_MOST = 10_000


@command
async def locks(
    url: Url,
    prefix: Prefix = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, help="The most to show.")] = 1000,
    break_key: Annotated[
        str | None, typer.Option("--break", metavar="KEY", help="Take this session's lock from its holder.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show who holds which session since when, and how many wait for it."""
    async with opened(url) as storage:
        if not isinstance(storage, ListsLocks):
            raise CommandError(FAILED, "listing locks is not available for this storage; they run out by themselves")
        if break_key is not None:
            held = await storage.list_locks(break_key, _MOST)
            found = next((lock for lock in held if lock.key == break_key), None)
            await break_lock(storage, found, break_key, yes, as_json)
            return
        covered = await scope(storage, prefix)
        listed = await storage.list_locks(covered.prefix, limit)
        held = [lock for lock in listed if covered.covers(lock.key)]
        now = storage.now()
    if as_json:
        for lock in held:
            emit(to_builtins(lock))
        return
    note(f"{counted(len(held), 'session')} {'is' if len(held) == 1 else 'are'} locked now")
    if held:
        table(
            ["KEY", "HOLDER", "SINCE", "LEASE ENDS", "WAITING"], [_row(lock, now) for lock in held], right=["WAITING"]
        )


def _row(lock: HeldLock, now: float) -> list[str]:
    holder = (lock.holder or "not known") + (" (dead)" if lock.dead else "")
    return [shown(lock.key), safe(holder), moment(lock.since), remaining(lock.until, now), str(lock.waiters)]


async def break_lock(storage: Storage, found: HeldLock | None, key: str, yes: bool, as_json: bool) -> None:
    """Take a lock from its holder, if it is still the same one."""
    name = shown(key)
    if found is None:
        raise CommandError(MISSING, f"{name} is not locked")
    if not yes:
        held_by = f"{name} is held by {found.holder or 'an unknown process'}, whose update will fail"
        confirm(f"{held_by}. Break the lock?", "the update that holds the lock would fail")
    if not await maintenance.break_lock(storage, found):
        raise CommandError(MISSING, f"{name} is not locked any more, or by another update by now; nothing was done")
    freed = f"the lock of {name} is free; the update that held it gets a SessionConflictError and writes nothing"
    tell(as_json, {"key": key, "broken": True, "holder": found.holder}, freed)
