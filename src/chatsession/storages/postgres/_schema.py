"""Names, creates, migrates and checks the tables and functions in the database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from typing import ClassVar

from chatsession.errors import StorageError
from chatsession.storages.postgres._driver import Connection

SQL = files("chatsession.storages.postgres") / "sql"

_FUNCTIONS = (
    "current_era", "recover", "first_waiter", "document", "read", "lock", "lock_one", "hold", "commit", "commit_one",
    "renew", "abandon", "sweep",
)  # fmt: skip
_TABLES = {
    "sessions": "",
    "leases": "_leases",
    "era": "_era",
    "commits": "_commits",
    "meta": "_meta",
    "numbers": "_numbers",
}
_COLUMNS = {
    "key": "text",
    "whole_key": "bytea",
    "data": "jsonb",
    "raw": "bytea",
    "version": "bigint",
    "expires_at": "timestamp with time zone",
}


class Schema:
    """The tables and functions that the sessions of one table need, under the names that the user chose.

    Args:
        schema: the PostgreSQL schema (a namespace).
        table: the table of the sessions; the names of the others begin with its name.

    Raises:
        StorageError: a name cannot be used in PostgreSQL, or here.
    """

    text_only: ClassVar[bool] = False
    """The table cannot hold arbitrary bytes."""
    _rights: ClassVar[dict[str, Sequence[str]]] = {
        "sessions": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "leases": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "era": ("SELECT", "INSERT"),
        "commits": ("SELECT", "INSERT", "DELETE"),
        "meta": ("SELECT", "UPDATE"),
        "numbers": ("USAGE",),
    }
    """What the user must be allowed to do with each table and sequence."""

    def __init__(self, schema: str, table: str) -> None:
        for what, name, longest in (("schema", schema, 63), ("table", table, 45)):
            if not re.fullmatch(r"[\w .-]+", name) or len(name.encode()) > longest:
                raise StorageError(
                    f"the {what} name {name!r} cannot be used; take letters, digits and '_-. ', at most {longest} bytes"
                )
        self.schema = schema
        self.table = table
        self._filled: dict[str, str] = {}
        self._queries: dict[str, str] = {}

    def __str__(self) -> str:
        return f'"{self.schema}"."{self.table}"'

    @cached_property
    def channel(self) -> str:
        """The channel on which waiters are woken."""
        return f"chatsession_{hashlib.sha256(str(self).encode()).hexdigest()[:32]}"

    def sql(self, text: str) -> str:
        """Replace the placeholders of some SQL by names."""
        filled = self._filled.get(text)
        if filled is None:
            filled = self._filled[text] = re.sub(r"\{(\w+)\}", lambda found: self._names[found[1]], text)
        return filled

    def query(self, name: str) -> str:
        """A query from its file, with the names put in."""
        if name not in self._queries:
            self._queries[name] = self.sql((SQL / "queries" / f"{name}.sql").read_text())
        return self._queries[name]

    def script(self, version: int = 0) -> str:
        """The SQL that brings a database from a version of the schema (0: an empty one) to the newest."""
        create = "" if self.schema == "public" else f'CREATE SCHEMA IF NOT EXISTS "{self.schema}";\n\n'
        return create + self._statements(version)

    async def prepare(self, connection: Connection, *, create: bool) -> None:
        """Create or migrate the tables where needed, and check them.

        Raises:
            StorageError: the tables cannot be used; the message says what to do.
        """
        await self._check_rights(connection)
        version = await self._version(connection)
        if version != NEWEST and create:
            await self._check_may_create(connection)
            version = await self._migrate(connection)
        if version is None:
            raise StorageError(f"the tables of {self} do not exist; apply the SQL that schema_sql() gives")
        if version > NEWEST:
            raise StorageError(
                f"the tables of {self} have version {version}, but this chatsession knows {NEWEST} at most; upgrade it"
            )
        if version < NEWEST:
            raise StorageError(
                f"the tables of {self} have version {version}, but {NEWEST} is needed; "
                f"apply the SQL that schema_sql(version={version}) gives"
            )
        await self._check_columns(connection)

    @cached_property
    def _names(self) -> dict[str, str]:
        def quoted(suffix: str) -> str:
            return f'"{self.schema}"."{self.table}{suffix}"'

        names = {name: quoted(suffix) for name, suffix in _TABLES.items()}
        names |= {name: quoted(f"_{name}") for name in _FUNCTIONS}
        names["rows"] = names["sessions"]
        names |= {name: f'"{self.table}_{name}"' for name in ("expiry_index", "commits_index")}
        return names | {"channel": self.channel, "table": str(self)}

    def _statements(self, version: int) -> str:
        if version >= NEWEST:
            return ""
        steps = [self._migration(number) for number in range(version + 1, NEWEST + 1)]
        steps += [self._function(name) for name in _FUNCTIONS]
        return self.sql("\n".join([*steps, f"UPDATE {{meta}} SET schema_version = {NEWEST};\n"]))

    def _migration(self, number: int) -> str:
        return (SQL / "migrations" / f"{number:04}.sql").read_text()

    def _function(self, name: str) -> str:
        return (SQL / "functions" / f"{name}.sql").read_text()

    async def _version(self, connection: Connection) -> int | None:
        if not await self._has(connection, _TABLES["meta"]):
            return None
        version = await connection.fetchval(self.sql("SELECT schema_version FROM {meta}"))
        return version if isinstance(version, int) else None

    async def _migrate(self, connection: Connection) -> int | None:
        """Migrate once, however many processes start together."""
        await connection.execute("BEGIN")
        try:
            await connection.execute(f"SELECT pg_advisory_xact_lock(hashtextextended('{self.channel}', 0))")
            version = await self._version(connection)
            if version is None:
                await self._check_free(connection)
                if not await connection.fetchval("SELECT to_regnamespace($1)", f'"{self.schema}"'):
                    await connection.execute(f'CREATE SCHEMA "{self.schema}"')
            if statements := self._statements(version or 0):
                await connection.execute(statements)
            await connection.execute("COMMIT")
        except Exception:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        return max(version or 0, NEWEST)

    async def _check_rights(self, connection: Connection) -> None:
        """Raises `StorageError` with the rights that the user lacks on what exists."""
        needed = [(self._names[table], right) for table, rights in self._rights.items() for right in rights]
        lacking = await connection.fetch(
            self.query("rights"),
            [name for name, _ in needed],
            [right for _, right in needed],
            self.schema,
            [f"{self.table}_{name}" for name in _FUNCTIONS],
        )
        if lacking:
            rights = ", ".join(str(right) for (right,) in lacking)
            raise StorageError(
                f"this user of PostgreSQL lacks a right that sessions need: {rights}; "
                "let the owner of the tables GRANT it"
            )

    async def _check_may_create(self, connection: Connection) -> None:
        """Raises `StorageError` if the user cannot create or migrate tables."""
        may_create = await connection.fetchval(
            "SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1", self.schema
        )
        if may_create is None:
            may_create = await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
            missing = "CREATE ON DATABASE (to create the schema of the tables)"
        else:
            missing = f'CREATE ON SCHEMA "{self.schema}"'
        if not may_create:
            raise StorageError(
                f"this user of PostgreSQL lacks a right that creating the tables needs: {missing}; GRANT it, or let "
                "another user apply the SQL that schema_sql() gives"
            )

    async def _check_free(self, connection: Connection) -> None:
        if await self._has(connection, _TABLES["sessions"]):
            raise StorageError(
                f"there is a table {self} already that is not of this library; choose another name by table="
            )

    async def _has(self, connection: Connection, suffix: str) -> object:
        # Not by to_regclass(), which may still remember that another process had not yet created it.
        return await connection.fetchval(
            "SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = $1 AND relname = $2",
            self.schema,
            self.table + suffix,
        )

    async def _check_columns(self, connection: Connection) -> None:
        rows = await connection.fetch(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            self._names["sessions"],
        )
        found = {str(name): str(kind) for name, kind in rows}
        wrong = [f"{name} {kind}" for name, kind in _COLUMNS.items() if found.get(name) != kind]
        if wrong:
            raise StorageError(
                f"the table {self} lacks columns of this library (missing, or of another type: "
                f"{', '.join(wrong)}); choose another name by table="
            )


def schema_sql(schema: str = "public", table: str = "chat_sessions", version: int = 0) -> str:
    """The SQL that creates what `PostgresStorage` needs, for users who run their own migrations.

    Args:
        schema: as for `PostgresStorage`.
        table: as for `PostgresStorage`.
        version: the present version (`SELECT schema_version FROM chat_sessions_meta`); 0: none.

    Returns:
        Statements to run in one transaction; empty if that version is the newest.
    """
    return Schema(schema, table).script(version)


NEWEST = sum(1 for each in (SQL / "migrations").iterdir() if each.name.endswith(".sql"))
