"""Sessions in the table of grammY's PostgreSQL storage, and a table for what its two columns cannot hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from chatsession.errors import StorageError
from chatsession.storages.base import Action, Change, Expect
from chatsession.storages.postgres._driver import Connection
from chatsession.storages.postgres._schema import NEWEST, SQL, Schema

_OWN = SQL / "grammy"
_COLUMNS = {"key": ("character varying", "text"), "value": ("text",)}


class GrammySchema(Schema):
    """grammY's table, and others whose names begin with its name and `_chatsession`.

    The tables and functions are those of `Schema`. Its table of sessions holds no values; the functions read a view
    of grammY's table instead.

    Args:
        schema: the PostgreSQL schema (a namespace).
        table: the one that grammY's `PsqlAdapter` has as `tableName`.

    Raises:
        StorageError: a name cannot be used in PostgreSQL, or here.
    """

    text_only: ClassVar[bool] = True
    _rights: ClassVar[dict[str, Sequence[str]]] = Schema._rights | {
        "sessions": ("SELECT",),
        "grammy": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "beside": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    }

    def __init__(self, schema: str, table: str) -> None:
        super().__init__(schema, f"{table}_chatsession")
        self._grammy = table

    def __str__(self) -> str:
        return f'"{self.schema}"."{self._grammy}"'

    async def prepare(self, connection: Connection, *, create: bool) -> None:
        """As `Schema.prepare`."""
        await self._check_grammy(connection)
        await super().prepare(connection, create=create)

    @cached_property
    def _names(self) -> dict[str, str]:
        names = super()._names
        return names | {
            "beside": names["sessions"],
            "sessions": f'"{self.schema}"."{self.table}_view"',
            "grammy": str(self),
            "rows": str(self),
            "version_of": f'"{self.schema}"."{self.table}_version_of"',
            "grammy_index": f'"idx_{self._grammy.lower()}"',  # as PostgreSQL reads the name that grammY does not quote
            "key_index": f'"{self.table}_key_index"',
        }

    def _migration(self, number: int) -> str:
        migration = super()._migration(number).replace("{sessions}", "{beside}")
        return migration if number < NEWEST else f"{migration}\n{(_OWN / 'table.sql').read_text()}"

    def _function(self, name: str) -> str:
        own = _OWN / f"{name}.sql"
        return own.read_text() if own.is_file() else super()._function(name)

    async def _check_grammy(self, connection: Connection) -> None:
        """Raises `StorageError` if there is a table of that name which is not like one of grammY's."""
        rows = await connection.fetch(
            "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute "
            "JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = $1 AND relname = $2 AND attnum > 0 AND NOT attisdropped",
            self.schema,
            self._grammy,
        )
        found = {str(name): str(kind) for name, kind in rows}
        wrong = [name for name, kinds in _COLUMNS.items() if found.get(name) not in kinds]
        if found and wrong:
            raise StorageError(
                f"the table {self} is not one of grammY's (missing, or of another type: {', '.join(wrong)}); "
                "choose another name by table=, or leave out layout=grammy"
            )


def grammy_schema_sql(schema: str = "public", table: str = "sessions", version: int = 0) -> str:
    """As `schema_sql`, for `layout="grammy"`; grammY's own table is created if it is missing.

    Args:
        schema: as for `PostgresStorage`.
        table: as for `PostgresStorage`.
        version: the present version (`SELECT schema_version FROM sessions_chatsession_meta`); 0: none.

    Returns:
        Statements to run in one transaction; empty if that version is the newest.
    """
    return GrammySchema(schema, table).script(version)


def without_bytes(changes: Sequence[Change]) -> tuple[Sequence[Change], dict[str, StorageError]]:
    """Replace changes that a column of text cannot hold by releases of their locks, and give the errors of those."""
    refused = {change.key: _refusal(change.key) for change in changes if not _is_text(change.value)}
    if not refused:
        return changes, refused
    made = [
        Change(change.key, Action.KEEP, b"", Expect.ANYTHING, None, change.lease, change.unlock)
        if change.key in refused
        else change
        for change in changes
    ]
    return made, refused


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in value


def _refusal(key: str) -> StorageError:
    return StorageError(
        "grammY's table holds text, and the value is not text; do without encryption, compression and codecs "
        "that make bytes",
        key=key,
    )
