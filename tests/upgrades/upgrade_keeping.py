"""What lies in a storage as a file to keep, and the way back: one keeper for each kind of storage.

The files hold what the storage's own programs would show, so that no later version of this library is needed to read
them, and none of the present one's code is in between.
"""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import nats
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError
from redis import Redis

from tools.servers.nats import NatsServer
from tools.servers.postgres import PostgresServer
from tools.servers.redis import RedisServer

_NOISE = ("--", "SET ", "\\restrict", "\\unrestrict", "SELECT pg_catalog.set_config")
"""Begins lines of `pg_dump` that only some versions of PostgreSQL know."""
_SETTINGS = "SET check_function_bodies = off;\n"
"""Functions come first in a dump, and name tables that come later."""


class Keeper(Protocol):
    """Of one kind of storage, empty as long as nothing was loaded."""

    file: str
    url: str

    async def load(self, path: Path) -> None:
        """Put in what was kept."""
        ...

    async def keep(self, path: Path) -> None:
        """Write down all that is there."""
        ...


class Files:
    file = "files.tar.gz"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "sessions"
        self.url = f"file://{self._folder}"

    async def load(self, path: Path) -> None:
        with tarfile.open(path) as archive:
            archive.extractall(self._folder, filter="fully_trusted")  # when a session ends is told by a link to nowhere

    async def keep(self, path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            for found in sorted(self._folder.rglob("*")):
                archive.add(found, found.relative_to(self._folder), recursive=False, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class SQLite:
    file = "sqlite.db"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "bot.db"
        self.url = f"sqlite:///{self._path}"

    async def load(self, path: Path) -> None:
        shutil.copy(path, self._path)

    async def keep(self, path: Path) -> None:
        with sqlite3.connect(self._path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.copy(self._path, path)


class RedisKeys:
    """Every key as a line of JSON; texts in base64."""

    file = "redis.jsonl"

    def __init__(self, server: RedisServer) -> None:
        self.url = server.url
        self._client = Redis.from_url(server.url)

    async def load(self, path: Path) -> None:
        self._client.flushall()
        for entry in _lines_of(path):
            key = _bytes(entry["key"])
            self._client.set(key, _bytes(entry["value"]))
            if entry["expires_at"] > 0:
                self._client.pexpireat(key, entry["expires_at"])

    async def keep(self, path: Path) -> None:
        entries = [self._entry(name) for name in sorted(self._client.scan_iter())]
        _write_lines(path, [entry for entry in entries if not _is_passing(entry)])

    def _entry(self, name: bytes) -> dict[str, Any]:
        value: Any = self._client.get(name)  # raises for what is no string: then this is to be taught to keep it
        return {"key": _text(name), "value": _text(value), "expires_at": self._client.pexpiretime(name)}


def _is_passing(entry: dict[str, Any]) -> bool:
    """Is it gone within a day, as what is remembered of calls?"""
    return 0 < entry["expires_at"] < (time.time() + 86_400) * 1000


class Postgres:
    """What `pg_dump` prints, less what depends on its version."""

    file = "postgres.sql"

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server = server
        self._database = database
        self.url = server.create_database(database)

    async def load(self, path: Path) -> None:
        self._server.psql(_SETTINGS + _read(path), self._database)

    async def keep(self, path: Path) -> None:
        dump = self._server.run("pg_dump", "--no-owner", "--no-privileges", "-d", self.url)
        _write(path, _lines(dump))


def _lines(dump: str) -> Iterator[str]:
    in_data = False
    for line in dump.splitlines():
        in_data = in_data or line.startswith("COPY ")
        if in_data or (line and not line.startswith(_NOISE)):
            yield line
        in_data = in_data and line != "\\."


_GAP: dict[str, Any] = {"subject": "$KV.sessions.gap", "payload": "", "headers": None}
_OF_PUBLISHING = ("Nats-Expected-Last-Subject-Sequence", "Nats-Msg-Id")


class Nats:
    """A stream's configuration, and then its messages, each as a line of JSON; payloads in base64."""

    file = "nats.jsonl"

    def __init__(self, server: NatsServer) -> None:
        self.url = server.url

    async def load(self, path: Path) -> None:
        config, *messages = _lines_of(path)
        client = await nats.connect(self.url)
        try:
            stream = client.jetstream()
            for info in await stream.streams_info():
                await stream.delete_stream(info.config.name or "")
            await stream.add_stream(StreamConfig.from_response(config))
            for number, message in _numbered(messages):
                ack = await stream.publish(message["subject"], _bytes(message["payload"]), headers=message["headers"])
                assert ack.seq == number
            await stream.purge_stream(config["name"], subject=_GAP["subject"])
        finally:
            await client.close()

    async def keep(self, path: Path) -> None:
        client = await nats.connect(self.url)
        try:
            manager = client.jsm()
            (info,) = await manager.streams_info()
            lines: list[Any] = [info.config.as_dict()]
            for number in range(info.state.first_seq, info.state.last_seq + 1):
                try:
                    found = await manager.get_msg(info.config.name or "", number)
                except NotFoundError:  # replaced by a later one
                    continue
                headers = {name: text for name, text in (found.headers or {}).items() if name not in _OF_PUBLISHING}
                payload = _text(found.data or b"")
                lines.append({"seq": number, "subject": found.subject, "headers": headers, "payload": payload})
        finally:
            await client.close()
        _write_lines(path, lines)


def _numbered(messages: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The messages, with others where some are missing, so that each gets the number it had."""
    kept = {message["seq"]: message for message in messages}
    for number in range(1, max(kept) + 1):
        yield number, kept.get(number, _GAP)


def _read(path: Path) -> str:
    return path.read_text()


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    _write(path, map(json.dumps, entries))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


@contextmanager
def all_keepers() -> Generator[list[Keeper]]:
    """One of each, with servers of their own."""
    with (
        TemporaryDirectory() as folder,
        RedisServer() as redis,
        PostgresServer() as postgres,
        NatsServer() as server,
    ):
        yield [Files(Path(folder)), SQLite(Path(folder)), RedisKeys(redis), Postgres(postgres, "kept"), Nats(server)]
