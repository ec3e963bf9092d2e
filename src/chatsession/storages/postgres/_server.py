"""Checks of the server when the storage opens."""

from __future__ import annotations

from chatsession.errors import StorageError
from chatsession.storages.postgres._driver import Connection

_OLDEST = 12


async def check_server(connection: Connection) -> None:
    """Raises `StorageError` if sessions cannot be stored here."""
    major = connection.get_server_version()[0]
    if isinstance(major, int) and major < _OLDEST:
        raise StorageError(f"this is PostgreSQL {major}, but sessions need {_OLDEST} or newer; upgrade the server")
    ((read_only, encoding),) = await connection.fetch(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, "
        "current_setting('server_encoding')"
    )
    if read_only:
        raise StorageError(
            "this PostgreSQL is a read-only replica, or this user's transactions are read-only; "
            "give the URL of the primary (or several hosts and ?target_session_attrs=read-write)"
        )
    if encoding != "UTF8":
        raise StorageError(f"this database has the encoding {encoding}; create one with ENCODING 'UTF8'")


async def is_pooled(connection: Connection) -> bool:
    """Whether a pooler such as PgBouncer is in between, which gives its clients invented process ids."""
    return await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid()
