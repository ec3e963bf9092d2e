"""grammY's sessions, as its storage packages for files, Redis, PostgreSQL and MongoDB keep them.

Both plain data and the envelopes of `enhanceStorage` are read; the version in an envelope is where the manager's
`migrations` start from, and what has expired is left out.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from chatsession.errors import SessionError, StorageUnavailableError, shown
from chatsession.importers._entries import Entry
from chatsession.serialization.envelope import unwrap

if TYPE_CHECKING:
    from chatsession.importers._redis import Source

__all__ = ["file_entries", "mongo_entries", "postgres_entries", "redis_entries"]


def _plain(value: object) -> object:
    return int(value) if isinstance(value, int) else str(value)  # BSON has classes of its own


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_PAGE = 500
_LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is read at all."""
_OURS = b"!chatsession:"
"""Begins the keys of chatsession's own locks in Redis."""
_BESIDE = ".chatsession"
"""What chatsession keeps in a folder of files."""


async def file_entries(folder: str | os.PathLike[str]) -> AsyncGenerator[Entry]:
    """Read what `@grammyjs/storage-file` wrote.

    Args:
        folder: its `dirName`.

    Raises:
        SessionError: the folder, or a file in it, cannot be read.
    """
    root = Path(folder)
    try:
        files = await asyncio.to_thread(_files, root)
        while page := await asyncio.to_thread(_read, root, files):
            for entry in page:
                yield entry
    except OSError as error:
        raise SessionError(f"{shown(error.filename or str(root))} cannot be read: {error.strerror}") from None


async def redis_entries(redis: Source, *, match: str = "*") -> AsyncGenerator[Entry]:
    """Read what `@grammyjs/storage-redis` wrote.

    Its keys have no prefix unless the bot gave them one, so everything in the database that is a string is looked at;
    data that is not JSON is reported.

    Args:
        redis: the URL, or a client of redis-py (for a cluster, or sentinels), which stays open.
        match: a pattern of the keys, as `SCAN` takes it.

    Raises:
        StorageUnavailableError: Redis does not answer.
    """
    from chatsession.importers._redis import client_of, names_of, strings_of

    async with client_of(redis) as client:
        async for page in names_of(client, match.encode()):
            names = [name for name in page if not name.startswith(_OURS)]
            for name, value in zip(names, await strings_of(client, names), strict=True):
                if value is not None:
                    key = name.decode(errors="surrogateescape")
                    yield _entry(shown(key), key, value)


async def postgres_entries(url: str, *, table: str = "sessions") -> AsyncGenerator[Entry]:
    """Read what `@grammyjs/storage-psql` wrote.

    Args:
        url: of the database.
        table: its `tableName`.

    Raises:
        StorageUnavailableError: PostgreSQL does not answer.
        SessionError: the table does not exist.
    """
    try:
        import asyncpg  # pyright: ignore[reportMissingTypeStubs] - it has none
    except ImportError as error:
        raise ImportError("sessions in PostgreSQL need asyncpg: pip install 'chatsession[postgres]'") from error

    connect = cast("Callable[..., Awaitable[_Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
    name = '"' + table.replace('"', '""') + '"'
    query = f"SELECT key, value::text FROM {name} WHERE $1::text IS NULL OR key > $1 ORDER BY key LIMIT {_PAGE}"
    try:
        connection = await connect(url, timeout=10.0)
        try:
            last: object = None
            while rows := await connection.fetch(query, last):
                for key, value in rows:
                    last = key
                    yield _entry(shown(str(key)), str(key), b"" if value is None else str(value).encode())
        finally:
            await connection.close(timeout=2)
    except asyncpg.PostgresError as error:
        raise SessionError(
            f"grammY's table {table!r} cannot be read ({type(error).__name__}); pass its name as table=…"
        ) from None
    except (asyncpg.InterfaceError, OSError) as error:
        raise StorageUnavailableError(f"PostgreSQL did not answer ({type(error).__name__})") from None


async def mongo_entries(url: str, *, collection: str = "sessions") -> AsyncGenerator[Entry]:
    """Read what `@grammyjs/storage-mongodb` wrote.

    Args:
        url: with the name of the database, as in `mongodb://localhost/bot`.
        collection: the name of the one that it was given.

    Raises:
        StorageUnavailableError: MongoDB does not answer.
        SessionError: the URL names no database.
    """
    from chatsession.importers._mongo import client_of

    async with client_of(url) as client:
        documents = client.get_default_database()[collection]
        async for document in documents.find({"key": {"$type": "string"}, "value": {"$exists": True}}):
            key = str(document["key"])
            yield _entry(shown(key), key, _encode(document["value"]))


class _Connection(Protocol):
    """What is used of `asyncpg.Connection`."""

    async def fetch(self, query: str, *args: object) -> Sequence[tuple[object, object]]: ...
    async def close(self, *, timeout: float) -> None: ...


def _files(root: Path) -> Iterator[Path]:
    with os.scandir(root) as folders:  # raises now if the folder is missing
        inner = [entry.path for entry in folders if entry.is_dir(follow_symlinks=False) and entry.name != _BESIDE]
    return (Path(place, name) for folder in inner for place, _, names in os.walk(folder) for name in names)


def _read(root: Path, files: Iterator[Path]) -> list[Entry]:
    return [_of_file(root, path) for path in islice(files, _PAGE)]


def _of_file(root: Path, path: Path) -> Entry:
    """The end of a key is its folder: `sessions/42/-10042.json`."""
    origin = shown(str(path.relative_to(root)))
    folder, *inner = path.relative_to(root).parts
    key = "/".join(inner).removesuffix(".json")
    status = path.lstat()
    if path.suffix != ".json" or _tail(key) != folder or not stat.S_ISREG(status.st_mode):  # a link leads anywhere
        return Entry(origin=origin, kind="session", problem="it is not a file of grammY's")
    if status.st_size > _LARGEST:
        return Entry(origin=origin, kind="session", problem=f"it has more than {_LARGEST:,} bytes")
    return _entry(origin, key, path.read_bytes())


def _tail(key: str) -> str:
    """The last two UTF-16 code units, as JavaScript cuts them; half a character becomes U+FFFD on the disk."""
    return key.encode("utf-16-le", "surrogatepass")[-4:].decode("utf-16-le", "replace")


def _entry(origin: str, key: str, stored: bytes) -> Entry:
    if not stored.strip():
        return Entry(origin=origin, kind="session", problem="it is empty: a write was cut short")
    try:
        found = unwrap(stored, json=True)
        data = msgspec.json.decode(stored if found is None else bytes(found[0].data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Entry(origin=origin, kind="session", problem="it is not JSON")
    if found is None:
        return Entry(origin=origin, kind="session", key=key, data=data, migrate=True)
    envelope, inner = found
    if inner is None:
        return Entry(origin=origin, kind="session", problem="it is an envelope without data")
    if envelope.expires and envelope.expires <= time.time() * 1000:
        return Entry(origin=origin, kind="session", problem="it has expired")
    version = envelope.version if isinstance(envelope.version, (int, float)) else None
    return Entry(origin=origin, kind="session", key=key, data=data, version=version, migrate=True)
