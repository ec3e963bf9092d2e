"""What people who look after the database want to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.postgres._database import Database
from chatsession.storages.postgres._schema import Schema

_LOCKS = """
SELECT l.key, s.whole_key, l.token, extract(epoch FROM l.until)::float8, l.holder, cardinality(l.queue)
FROM {leases} AS l LEFT JOIN {sessions} AS s ON s.key = l.key
WHERE l.until > clock_timestamp() ORDER BY l.key
"""
_FACTS = """
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('full_page_writes'), pg_size_pretty(pg_total_relation_size('{table}'::regclass)),
    (SELECT reltuples::bigint FROM pg_class WHERE oid = '{table}'::regclass),
    (SELECT schema_version FROM {meta}), (SELECT count(*) FROM pg_stat_replication),
    (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = '{table}'::regclass)
"""
_EXPIRED = "SELECT count(*) FROM {sessions} WHERE expires_at <= statement_timestamp()"


async def locks(database: Database, schema: Schema, prefix: str, limit: int) -> Sequence[HeldLock]:
    """`ListsLocks.list_locks`."""
    held: list[HeldLock] = []
    for key, whole, token, until, holder, waiters in await database.fetch(schema.sql(_LOCKS)):
        name = cast("str", key) if whole is None else cast("bytes", whole).decode()
        if name.startswith(prefix) and len(held) < limit:
            who = None if holder is None else f"process {str(holder).partition('-')[0]}"
            held.append(HeldLock(name, cast("int", token), cast("float", until), who, None, cast("int", waiters)))
    return held


async def expired(database: Database, schema: Schema) -> int:
    """`CountsExpired.count_expired`."""
    ((number,),) = await database.fetch(schema.sql(_EXPIRED))
    return cast("int", number)


async def facts(database: Database, schema: Schema) -> Sequence[Fact]:
    """`Tells.facts`."""
    sql = schema.sql(_FACTS.replace("{table}", str(schema)))  # {sessions} may be a view, of no size
    ((version, fsync, commit, full, size, rows, tables, replicas, dead),) = await database.fetch(sql)
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
        Fact("waiting updates are woken", "yes" if database.wakes is not None else "no: a pooler stands between"),
    ]
