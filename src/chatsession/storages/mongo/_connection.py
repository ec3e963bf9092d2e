"""The client: made from the URL in each event loop and process, or given by the user."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from chatsession.errors import StorageError

Client: TypeAlias = AsyncMongoClient[dict[str, Any]]
Collection: TypeAlias = AsyncCollection[dict[str, Any]]

_DEFAULTS: dict[str, Any] = {
    "appname": "chatsession",
    "connectTimeoutMS": 3000,
    "heartbeatFrequencyMS": 2000,  # with the line above, a server that falls silent is noticed after five seconds
    "maxIdleTimeMS": 60_000,  # most firewalls forget idle connections later
    "retryWrites": False,  # calls are repeated here; for pymongo's retries, the server would keep copies of documents
}
"""Options that a URL may override."""

_inherited: list[object] = []
"""Clients of the parent process, kept so that they are not finalized here."""


class Connection:
    """Gives the collection of the sessions, with the concerns that make commits durable.

    Args:
        source: the URL, or the user's client.
        database: the name of the database; `None`: that of the URL.
        collection: the name of the collection.
    """

    def __init__(self, source: str | Client, database: str | None, collection: str) -> None:
        if not isinstance(source, str | AsyncMongoClient):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
            raise StorageError(f"a client of sessions is a pymongo.AsyncMongoClient, not a {type(source).__name__}")
        self._source = source
        self._database = database or _database_of(source)
        self._collection = collection
        self._client: Client | None = None

    def __str__(self) -> str:
        """The server's name in messages, without credentials."""
        if not isinstance(self._source, str):
            return "MongoDB"
        try:
            parts = urlsplit(self._source)
        except ValueError:
            return "MongoDB"
        return f"MongoDB at {parts.netloc.rpartition('@')[2]}"

    @property
    def place(self) -> str:
        """The names of the database and the collection."""
        return f"{self._database}.{self._collection}"

    @property
    def client(self) -> Client:
        """The client of this event loop."""
        if self._client is None:
            self._client = _connect(self._source) if isinstance(self._source, str) else self._source
        return self._client

    def collection(self) -> Collection:
        """The collection. An acknowledged write is on the disks of a majority, unless the user chose otherwise."""
        options = self.client.options
        chosen = options.write_concern.document
        write = WriteConcern(**{"w": "majority", "j": True, **chosen})  # pyright: ignore[reportArgumentType] - keywords
        if not write.acknowledged:
            raise StorageError("sessions in MongoDB need acknowledged writes; leave out w=0")
        return self.client[self._database].get_collection(
            self._collection,
            codec_options=DEFAULT_CODEC_OPTIONS,  # the user's client may decode documents as something else
            read_preference=ReadPreference.PRIMARY,
            write_concern=write,
            read_concern=options.read_concern if options.read_concern.level else ReadConcern("majority"),
        )

    async def close(self) -> None:
        """Close the client that was made here."""
        client, self._client = self._client, None
        if client is not None and client is not self._source:
            await client.close()

    def forget(self, *, inherited: bool) -> None:
        """As `Storage.forget`."""
        client, self._client = self._client, None
        if inherited and client is not None:
            _inherited.append(client)


def _connect(url: str) -> Client:
    given = {name.lower() for name, _ in parse_qsl(urlsplit(url).query)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the options were checked when the storage was made
        return AsyncMongoClient(url, **{name: value for name, value in _DEFAULTS.items() if name.lower() not in given})


def _database_of(source: str | Client) -> str:
    name = unquote(urlsplit(source).path.removeprefix("/")) if isinstance(source, str) else ""
    if not name:
        raise StorageError("sessions in MongoDB need the name of a database: mongodb://host/DATABASE, or database=")
    return name
