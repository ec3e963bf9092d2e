"""The tables in PostgreSQL: created, migrated, printed, checked."""

from __future__ import annotations

import asyncio
import re

import pytest

from chatsession.errors import StorageError
from chatsession.storages.postgres import PostgresStorage, _schema, schema_sql
from chatsession.storages.postgres._storage import Layout
from chatsession.testing.conformance.single import put, value_of
from tools.servers.postgres import PostgresServer


async def test_a_fresh_schema_equals_all_its_migrations(postgres_server: PostgresServer) -> None:
    created, printed, migrated = (postgres_server.create_database(f"{kind}_schema") for kind in ("new", "sql", "old"))
    async with PostgresStorage(created):
        pass
    postgres_server.psql(schema_sql(), "sql_schema")
    for version in range(_schema.NEWEST):
        postgres_server.psql(schema_sql(version=version) if version else schema_sql(), "old_schema")
        postgres_server.psql(f"UPDATE chat_sessions_meta SET schema_version = {_schema.NEWEST}", "old_schema")
    dumps = {_dump(postgres_server, url) for url in (created, printed, migrated)}
    assert len(dumps) == 1
    async with PostgresStorage(printed, create=False) as storage:
        await put(storage, "chat", b"1")
        assert await value_of(storage, "chat") == b"1"
    assert schema_sql(version=_schema.NEWEST) == ""


async def test_large_values_are_compressed_by_lz4(postgres_server: PostgresServer) -> None:
    known = postgres_server.psql("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
    if "lz4" not in known:
        pytest.skip("this server does not know LZ4")
    async with PostgresStorage(postgres_server.create_database("lz4")) as storage:
        await put(storage, "chat", b'["%b"]' % (b"pizza" * 2_000))
    assert postgres_server.psql("SELECT pg_column_compression(data) FROM chat_sessions", "lz4") == "lz4\n"


async def test_many_start_at_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("many_at_once")
    storages = [PostgresStorage(url, schema="bots") for _ in range(8)]
    await asyncio.gather(*(each.open() for each in storages))
    await asyncio.gather(*(each.close() for each in storages))


async def test_odd_names_are_taken_literally(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("odd_names")
    async with PostgresStorage(url, schema="My Bots", table="Chat-Sessions v1.0") as storage:
        await put(storage, "chat", b"1")
    assert postgres_server.psql('SELECT key FROM "My Bots"."Chat-Sessions v1.0"', "odd_names") == "chat\n"
    async with PostgresStorage(url, schema="My Bots", table="x" * 45) as storage:
        await put(storage, "chat", b"2")


@pytest.mark.parametrize("name", ["", 'a"b', "a'b", "a;b", "a{b}", "a\0", "x" * 46, "é" * 23])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(StorageError, match="table name"):
        PostgresStorage("postgresql://db.example", table=name)


async def test_missing_tables_are_reported(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("no_tables")
    with pytest.raises(StorageError, match=r"do not exist; apply the SQL that schema_sql\(\) gives"):
        await PostgresStorage(url, create=False).open()


async def test_a_foreign_table_is_left_alone(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("foreign_table")
    postgres_server.psql("CREATE TABLE chat_sessions (id int, value text)", "foreign_table")
    with pytest.raises(StorageError, match="not of this library; choose another name"):
        await PostgresStorage(url).open()
    assert postgres_server.psql("SELECT count(*) FROM chat_sessions", "foreign_table") == "0\n"
    assert postgres_server.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "foreign_table") == "1\n"


async def test_columns_that_were_changed_are_found(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("changed_columns")
    async with PostgresStorage(url):
        pass
    postgres_server.psql("ALTER TABLE chat_sessions ADD COLUMN note text", "changed_columns")
    async with PostgresStorage(url) as storage:
        await put(storage, "chat", b"1")
    postgres_server.psql("ALTER TABLE chat_sessions DROP COLUMN data CASCADE", "changed_columns")
    with pytest.raises(StorageError, match="missing, or of another type: data jsonb"):
        await PostgresStorage(url).open()


async def test_a_newer_schema_is_left_alone(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("newer_schema")
    async with PostgresStorage(url):
        pass
    postgres_server.psql("UPDATE chat_sessions_meta SET schema_version = 999", "newer_schema")
    with pytest.raises(StorageError, match="have version 999, but this chatsession knows"):
        await PostgresStorage(url).open()


async def test_a_user_who_may_not_create_tables_learns_why(postgres_server: PostgresServer) -> None:
    url = _as_guest(postgres_server, "no_rights")
    with pytest.raises(StorageError, match=r'lacks a right .* CREATE ON SCHEMA "public"; GRANT it') as caught:
        await PostgresStorage(url).open()
    assert "guest" not in str(caught.value)
    with pytest.raises(StorageError, match="CREATE ON DATABASE"):
        await PostgresStorage(url, schema="bots").open()


@pytest.mark.parametrize("layout", ["chatsession", "grammy"])
async def test_each_missing_right_is_named(postgres_server: PostgresServer, layout: Layout) -> None:
    database = f"rights_{layout}"
    url = _as_guest(postgres_server, database)
    async with PostgresStorage(postgres_server.url_of(database), layout=layout):
        pass
    table = "chat_sessions" if layout == "chatsession" else "sessions"
    beside = table if layout == "chatsession" else "sessions_chatsession"
    postgres_server.psql("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest", database)
    for lacking, grant in [
        (f"USAGE ON SEQUENCE public.{beside}_numbers", f"USAGE ON SEQUENCE {beside}_numbers"),
        (f"UPDATE ON TABLE public.{table}", f"UPDATE ON TABLE {table}"),
        (f"DELETE ON TABLE public.{beside}_leases", f"DELETE ON TABLE {beside}_leases"),
        ("USAGE ON SCHEMA public", "USAGE ON SCHEMA public"),
        (f"EXECUTE ON FUNCTION {beside}_read(text[])", f"EXECUTE ON FUNCTION {beside}_read(text[])"),
    ]:
        postgres_server.psql(f"REVOKE {grant} FROM guest, PUBLIC", database)
        with pytest.raises(StorageError, match=f"lacks a right .*{re.escape(lacking)}") as caught:
            await PostgresStorage(url, layout=layout).open()
        assert str(caught.value).count(" ON ") == 1, "no other right"
        postgres_server.psql(f"GRANT {grant} TO guest", database)
    async with PostgresStorage(url, layout=layout) as storage:
        await put(storage, "chat", b"1")
        assert await value_of(storage, "chat") == b"1"
        await storage.sweep()


def _as_guest(server: PostgresServer, database: str) -> str:
    """Make a database, and return its URL for a user who owns nothing."""
    url = server.create_database(database)
    server.psql(
        "DO $$BEGIN CREATE ROLE guest LOGIN PASSWORD 'guest-pw'; EXCEPTION WHEN duplicate_object THEN NULL; END$$"
    )
    return re.sub("//.*@", "//guest:guest-pw@", url)


def _dump(server: PostgresServer, url: str) -> str:
    dumped = server.run("pg_dump", "--schema-only", "--no-owner", "-d", url)
    return re.sub(r"\\(un)?restrict .*", "", dumped)
