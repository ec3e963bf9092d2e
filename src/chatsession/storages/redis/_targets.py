"""Finds the servers of a URL or of a user's client."""

from __future__ import annotations

from urllib.parse import urlsplit

from redis.asyncio import Redis, RedisCluster

from chatsession.errors import StorageError
from chatsession.storages.redis._cluster import cluster, cluster_of
from chatsession.storages.redis._servers import Servers, primary_by_sentinel, server_of, single_server
from chatsession.storages.redis._url import parse


def servers_of(server: str | Redis | RedisCluster) -> tuple[Servers, str, dict[str, float]]:
    """Return the servers, their name in messages, and the storage options of the URL."""
    if isinstance(server, RedisCluster):
        return cluster_of(server), "the cluster of the given client", {}
    if isinstance(server, Redis):
        return server_of(server.connection_pool), "the server of the given client", {}
    try:
        target = parse(urlsplit(server))
    except ValueError:
        raise StorageError("the URL of the storage is malformed") from None
    make = {"redis+cluster": cluster, "redis+sentinel": primary_by_sentinel}.get(target.scheme, single_server)
    return make(target), str(target), target.options
