"""Where connections lead: one server, or the primary that sentinels point to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol, cast

from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from chatsession.storages.redis._url import Target

Word = bytes | str | int
"""A part of a command."""

_SECONDS_TO_CONNECT = 3.0


class Wire(Protocol):
    """What is used of redis-py's connections."""

    retry: Retry

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    def pack_commands(self, commands: Iterable[Sequence[Word]]) -> list[bytes]: ...
    async def send_packed_command(self, command: Iterable[bytes], check_health: bool = True) -> None: ...
    async def read_response(
        self, disable_decoding: bool = False, timeout: float | None = None, *, push_request: bool | None = False
    ) -> object: ...


class Servers(ABC):
    """Knows at which server a key is, and makes connections; which of them are kept is not its business."""

    items_per_script: ClassVar[int]
    """How many sessions one script call may deal with; a server does nothing else meanwhile."""
    clustered: ClassVar[bool] = False
    """The keys are spread over several servers."""
    follow_primary: bool = True
    """Where a primary is replaced, the new one is found."""

    located: bool = True
    """It is known where the keys are."""

    @abstractmethod
    async def relocate(self) -> None:
        """Find out (anew) where the keys are."""

    @abstractmethod
    def moved(self, slot: int, place: str) -> None:
        """A server said that this slot is elsewhere now."""

    @abstractmethod
    def place_of(self, name: bytes) -> str:
        """The server that has a key."""

    @abstractmethod
    def places(self) -> Sequence[tuple[int, str]]:
        """All servers that have keys, each with something that stays when another takes its place; in order."""

    @abstractmethod
    def make(self, place: str) -> Wire:
        """A new connection, not connected yet."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of whatever this object opened itself."""


class SingleServer(Servers):
    """One place, whichever server that may be at the time.

    Args:
        pool: makes the connections, and with them the log-in, encryption, or search for the primary.
        owned: further things to close in the end.
    """

    items_per_script: ClassVar[int] = 50

    def __init__(self, pool: ConnectionPool, owned: Sequence[Sentinel] = ()) -> None:
        self._pool = pool
        self._owned = owned
        self.follow_primary = isinstance(pool, SentinelConnectionPool)

    async def relocate(self) -> None:
        pass  # a new connection finds out by itself

    def moved(self, slot: int, place: str) -> None:
        pass

    def place_of(self, name: bytes) -> str:
        return ""

    def places(self) -> Sequence[tuple[int, str]]:
        return ((0, ""),)

    def make(self, place: str) -> Wire:
        return once(self._pool.make_connection())

    async def close(self) -> None:
        for sentinels in self._owned:
            for client in sentinels.sentinels:
                await client.aclose()


def once(connection: object) -> Wire:
    """A connection that tries once: how often to try again, and where, is decided in one place for all."""
    wire = cast("Wire", connection)
    wire.retry = Retry(NoBackoff(), 0)
    return wire


def connection_options(target: Target) -> dict[str, Any]:
    """What redis-py needs to make connections to this target, but for the host."""
    return {
        "db": target.database,
        "username": target.username,
        "password": target.password,
        "protocol": 2,  # nothing of the newer one is needed, and it takes a round trip more to begin
        "socket_timeout": None,  # each attempt is bounded as a whole, which costs less than bounding each word
        "socket_connect_timeout": _SECONDS_TO_CONNECT,
        "socket_keepalive": True,
        **(target.tls or {}),
    }


def single_server(target: Target) -> SingleServer:
    """For `redis:` and `rediss:`."""
    ((host, port),) = target.hosts
    kind = Connection if target.tls is None else SSLConnection
    return SingleServer(ConnectionPool(connection_class=kind, host=host, port=port, **connection_options(target)))


def primary_by_sentinel(target: Target) -> SingleServer:
    """For `redis+sentinel:`."""
    options = connection_options(target)
    encrypted = target.tls is not None
    sentinels = Sentinel(
        target.hosts,
        sentinel_kwargs={
            **{name: options[name] for name in options if name.startswith(("socket_", "ssl_", "protocol"))},
            "ssl": encrypted,
            "username": target.sentinel_username,
            "password": target.sentinel_password,
            "retry": Retry(NoBackoff(), 0),
        },
    )
    return SingleServer(SentinelConnectionPool(target.service, sentinels, ssl=encrypted, **options), [sentinels])
