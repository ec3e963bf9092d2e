"""Makes connections: to one server, or to the primary that sentinels point to."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast
from weakref import WeakSet

from redis import exceptions as driver
from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from chatsession.storages.redis._connection import Wire, discard, take_over
from chatsession.storages.redis._url import Target

_SECONDS_TO_CONNECT = 3.0
_SECONDS_TO_ASK = 2.0
_KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""An idle connection is probed after 15 s, and counts as broken 15 s later, by the platforms that know these names."""


class Servers(ABC):
    """Knows which server has a key, and makes connections to it. As it stands, there is one server at a time."""

    items_per_script: ClassVar[int] = 50
    """How many sessions one script call handles at most; a server is blocked while a script runs."""
    clustered: ClassVar[bool] = False
    """The keys are spread over several servers."""
    follow_primary: bool = True
    """When a primary is replaced, the new one is found."""

    located: bool = True
    """It is known which server has which keys."""

    def __init__(self) -> None:
        self._wires: WeakSet[Wire] = WeakSet()

    def make(self, place: str) -> Wire:
        """Return a new connection, which is not connected yet."""
        wire = take_over(self._connection(place))
        self._wires.add(wire)
        return wire

    def forget(self) -> None:
        """Drop all connections, which belong to a closed event loop or to the parent of this process."""
        for wire in list(self._wires):
            discard(wire)
        self._wires.clear()

    async def relocate(self) -> None:  # noqa: B027 - each new connection to a single server finds the primary
        """Find out which server has which keys."""

    def moved(self, slot: int, place: str) -> None:  # noqa: B027 - a single server has all slots
        """Note that a slot is now at another server."""

    def place_of(self, name: bytes) -> str:
        """Return the server that has a key."""
        return ""

    def places(self) -> Sequence[tuple[int, str]]:
        """Return all servers that have keys, each with a number that outlives a failover, in its order."""
        return ((0, ""),)

    async def close(self) -> None:  # noqa: B027 - the callers close their connections
        """Close what this object opened itself."""

    @abstractmethod
    def _connection(self, place: str) -> object:
        """Return a new connection of redis-py."""


class _Sentinels(Sentinel):
    """Finds the primary for one task at a time, and asks the next sentinel where one is silent.

    redis-py waits for a silent sentinel. It moves the sentinel that answered to the front of its list; when several
    tasks do so at once, others fall out of the list, are never asked again, and keep their connections.
    """

    def __init__(self, addresses: Sequence[tuple[str, int]], options: dict[str, Any], **more: Any) -> None:
        unbounded = {"socket_timeout": None, "retry": Retry(NoBackoff(), 0)}
        cast("Any", super()).__init__(addresses, sentinel_kwargs={**unbounded, **options}, **more)
        self._asking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        async with self._asking:
            for sentinel in cast("list[Any]", [*self.sentinels]):
                with suppress(driver.ConnectionError, driver.TimeoutError, TimeoutError):
                    async with asyncio.timeout(_SECONDS_TO_ASK):
                        state = (await sentinel.sentinel_masters()).get(service_name)
                    if state and cast("Any", self).check_master_state(state, service_name):
                        self.sentinels.remove(sentinel)
                        self.sentinels.insert(0, sentinel)
                        return state["ip"], state["port"]
        raise MasterNotFoundError(f"No master found for {service_name!r}")


class SingleServer(Servers):
    """One server, or whichever server is the primary at the time.

    Args:
        make_pool: returns a pool whose connections log in, encrypt, and find the primary by themselves.
    """

    def __init__(self, make_pool: Callable[[], ConnectionPool]) -> None:
        super().__init__()
        self._make_pool = make_pool
        self._pool = make_pool()
        self.follow_primary = isinstance(self._pool, SentinelConnectionPool)

    def forget(self) -> None:
        super().forget()
        for pool in self._sentinel_pools():
            for connection in (*pool._available_connections, *pool._in_use_connections):
                discard(connection)
            pool.reset()
        self._pool = self._make_pool()

    async def close(self) -> None:
        for pool in self._sentinel_pools():
            await pool.aclose()

    def _connection(self, place: str) -> object:
        return self._pool.make_connection()

    def _sentinel_pools(self) -> list[Any]:
        if not isinstance(self._pool, SentinelConnectionPool):
            return []
        return [client.connection_pool for client in cast("Any", self._pool).sentinel_manager.sentinels]


def connection_options(target: Target) -> dict[str, Any]:
    """Return the options of connections to this target, except for the host."""
    return {
        "db": target.database,
        "username": target.username,
        "password": target.password,
        "protocol": 2,  # version 3 takes one more round trip to connect
        "socket_timeout": None,  # each attempt is bounded as a whole
        "socket_connect_timeout": _SECONDS_TO_CONNECT,
        **({} if target.socket else _keep_alive()),
        **(target.tls or {}),
    }


def _keep_alive() -> dict[str, Any]:
    known = {getattr(socket, name): value for name, value in _KEEP_ALIVE.items() if hasattr(socket, name)}
    return {"socket_keepalive": True, "socket_keepalive_options": known}


def single_server(target: Target) -> SingleServer:
    """One server, by its address or its Unix socket."""
    options = connection_options(target)
    if target.socket:
        return SingleServer(
            lambda: ConnectionPool(connection_class=UnixDomainSocketConnection, path=target.socket, **options)
        )
    ((host, port),) = target.hosts
    kind = Connection if target.tls is None else SSLConnection
    return SingleServer(lambda: ConnectionPool(connection_class=kind, host=host, port=port, **options))


def primary_by_sentinel(target: Target) -> SingleServer:
    """The primary of a `redis+sentinel:` URL."""
    options = connection_options(target)
    encrypted = target.tls is not None
    sentinel_options = {
        **{name: options[name] for name in options if name.startswith(("socket_keep", "ssl_", "protocol"))},
        "ssl": encrypted,
        "username": target.sentinel_username,
        "password": target.sentinel_password,
    }

    def make_pool() -> ConnectionPool:
        sentinels = _Sentinels(target.hosts, sentinel_options)
        return SentinelConnectionPool(target.service, sentinels, ssl=encrypted, **options)

    return SingleServer(make_pool)


def server_of(pool: ConnectionPool) -> SingleServer:
    """The server of a user's client, with new connections that have the client's settings.

    The client's own connections belong to the event loop and the process in which the user uses it.
    """
    if isinstance(pool, SentinelConnectionPool):
        return SingleServer(lambda: _same_sentinels(pool))
    return SingleServer(lambda: pool)


def _same_sentinels(pool: SentinelConnectionPool) -> ConnectionPool:
    given = cast("Any", pool)
    manager = given.sentinel_manager
    addresses = [client.connection_pool.connection_kwargs for client in manager.sentinels]
    sentinels = _Sentinels(
        [(address["host"], address["port"]) for address in addresses],
        manager.sentinel_kwargs,
        min_other_sentinels=manager.min_other_sentinels,
    )
    options = {name: value for name, value in given.connection_kwargs.items() if name != "connection_pool"}
    return SentinelConnectionPool(
        given.service_name,
        sentinels,
        connection_class=given.connection_class,
        is_master=given.is_master,
        check_connection=given.check_connection,
        **options,
    )
