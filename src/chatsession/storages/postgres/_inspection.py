"""What the storage can tell operators about its locks, its expired sessions and its server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.postgres._database import Database
from chatsession.storages.postgres._schema import Schema


async def locks(database: Database, schema: Schema, prefix: str, limit: int) -> Sequence[HeldLock]:
    """`ListsLocks.list_locks`."""
    held: list[HeldLock] = []
    for key, whole, token, until, holder, waiters in await database.fetch(schema.query("locks")):
        name = cast("str", key) if whole is None else cast("bytes", whole).decode()
        if name.startswith(prefix) and len(held) < limit:
            who = None if holder is None else f"process {str(holder).partition('-')[0]}"
            held.append(HeldLock(name, cast("int", token), cast("float", until), who, None, cast("int", waiters)))
    return held


async def expired(database: Database, schema: Schema) -> int:
    """`CountsExpired.count_expired`."""
    ((number,),) = await database.fetch(schema.query("count_expired"))
    return cast("int", number)


async def facts(database: Database, schema: Schema) -> Sequence[Fact]:
    """`Tells.facts`."""
    ((version, fsync, commit, full, size, rows, tables, replicas, dead),) = await database.fetch(schema.query("facts"))
    return [
        Fact("PostgreSQL", str(version)),
        Fact("schema of the tables", str(tables)),
        Fact("fsync", str(fsync), None if fsync == "on" else "a crash may damage the whole database; turn it on"),
        Fact(
            "synchronous_commit",
            str(commit),
            "a crash may undo the last commits; turn it on for this user" if commit == "off" else None,
        ),
        Fact("full_page_writes", str(full), None if full == "on" else "a crash may damage the database; turn it on"),
        Fact("replicas connected", str(replicas)),
        Fact("table and indexes", str(size)),
        Fact("rows (estimate)", "not known yet" if cast("int", rows) < 0 else f"{rows:,}"),
        Fact("dead rows (estimate)", str(dead)),
        Fact(
            "waiting updates are woken",
            "yes" if database.wakeups is not None else "no, because of a pooler",
        ),
    ]
