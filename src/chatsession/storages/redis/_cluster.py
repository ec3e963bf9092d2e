"""Knows which server of a cluster has which keys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from redis.asyncio import Connection, RedisCluster, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from chatsession.storages.redis._connection import connected
from chatsession.storages.redis._errors import ReplyError, is_transient
from chatsession.storages.redis._names import SLOTS, slot_of
from chatsession.storages.redis._servers import Servers, connection_options
from chatsession.storages.redis._url import Target

_SECONDS_TO_ASK = 2.0

Address = tuple[str, int]


class ClusterServers(Servers):
    """Knows the primaries of a cluster by their addresses.

    Args:
        seeds: some of its servers.
        connect: makes a connection to an address.
        remap: turns the address that a server announces into one that can be reached.
    """

    items_per_script: ClassVar[int] = 1  # all keys of a script must be in one slot
    clustered: ClassVar[bool] = True

    def __init__(
        self, seeds: Sequence[Address], connect: Callable[[str, int], object], remap: Callable[[str, int], Address]
    ) -> None:
        super().__init__()
        self._seeds = [_place(*seed) for seed in seeds]
        self._connect = connect
        self._remap = remap
        self._by_slot: list[str] = []
        self.located = False
        self._locating = asyncio.Lock()

    async def relocate(self) -> None:
        if self._locating.locked():  # another task does it already
            async with self._locating:
                return
        async with self._locating:
            await self._relocate()

    def moved(self, slot: int, place: str) -> None:
        if self._by_slot:
            host, port = place.rsplit(":", 1)
            self._by_slot[slot] = _place(*self._remap(host, int(port)))

    def place_of(self, name: bytes) -> str:
        return self._by_slot[slot_of(name)]

    def places(self) -> Sequence[tuple[int, str]]:
        lowest: dict[str, int] = {}
        for slot, place in enumerate(self._by_slot):
            if place:
                lowest.setdefault(place, slot)
        return sorted((slot, place) for place, slot in lowest.items())

    def forget(self) -> None:
        super().forget()
        self._locating = asyncio.Lock()

    def _connection(self, place: str) -> object:
        if not place:
            raise RedisConnectionError("no server has this slot")
        host, port = place.rsplit(":", 1)
        return self._connect(host, int(port))

    async def _relocate(self) -> None:
        known = [place for _, place in self.places()]
        random.shuffle(known)
        failure: Exception = RedisConnectionError("no server of the cluster can be reached")
        for place in dict.fromkeys(known + self._seeds):
            try:
                async with asyncio.timeout(_SECONDS_TO_ASK):
                    self._by_slot = self._slots(await self._ask(place), place)
                self.located = True
                return
            except (ReplyError, RedisError, OSError) as error:
                failure = error
                if not is_transient(error):
                    break
        raise failure

    async def _ask(self, place: str) -> list[list[Any]]:
        link = await connected(self.make(place))
        try:
            ranges = (await link.ask([("CLUSTER", "SLOTS")], _SECONDS_TO_ASK))[0]
        finally:
            link.close()
        if isinstance(ranges, ReplyError):
            raise ranges
        return cast("list[list[Any]]", ranges)

    def _slots(self, ranges: list[list[Any]], asked: str) -> list[str]:
        by_slot = [""] * SLOTS
        try:
            for first, last, (host, port, *_), *_ in ranges:
                # A server that does not know its own name leaves it out; it is reached by the address just used.
                named = (host or b"").decode()
                address = (asked.rsplit(":", 1)[0] if named in ("", "?") else named, int(port))
                if not 0 <= first <= last < SLOTS:
                    raise ValueError("no such slots")
                by_slot[first : last + 1] = [_place(*self._remap(*address))] * (last + 1 - first)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidResponse from error
        return by_slot


def cluster(target: Target) -> ClusterServers:
    """The servers of a `redis+cluster:` URL."""
    options = connection_options(target)
    del options["db"]
    kind = Connection if target.tls is None else SSLConnection
    return ClusterServers(
        target.hosts, lambda host, port: kind(host=host, port=port, **options), lambda host, port: (host, port)
    )


def cluster_of(client: RedisCluster) -> ClusterServers:
    """The servers of a user's client, with new connections that have the client's settings."""
    manager = client.nodes_manager
    nodes = list(manager.startup_nodes.values())
    kind = nodes[0].connection_class
    options = {name: value for name, value in nodes[0].connection_kwargs.items() if name not in ("host", "port")}
    return ClusterServers(
        [(node.host, int(node.port)) for node in nodes],
        lambda host, port: kind(host=host, port=port, **options),
        manager.remap_host_port,
    )


def _place(host: str, port: int) -> str:
    return f"{host}:{port}"
