"""The storage itself: sessions as plain strings, locks beside them, a script for each kind of work."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from hashlib import sha1
from itertools import count
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from redis.asyncio import Redis, RedisCluster

from chatsession.errors import SessionError, StorageError
from chatsession.storages._base import (
    Action,
    Change,
    Committed,
    Expect,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Page,
    Record,
    Refused,
    Storage,
)
from chatsession.storages.redis import _scan
from chatsession.storages.redis._calls import Call, Calls, script_call
from chatsession.storages.redis._check import check_server
from chatsession.storages.redis._cluster import cluster, cluster_of
from chatsession.storages.redis._errors import of_key
from chatsession.storages.redis._names import lock_of, memory_of, name_of
from chatsession.storages.redis._scripts import ABANDON, COMMIT, LOCK, READ, RENEW
from chatsession.storages.redis._servers import Servers, SingleServer, Word, primary_by_sentinel, single_server
from chatsession.storages.redis._url import Target, parse
from chatsession.storages.redis._wakeups import Wakeups

_ACTIONS = {Action.PUT: "P", Action.DELETE: "D", Action.TOUCH: "T", Action.KEEP: "K"}
_BYTES_PER_SCRIPT = 1 << 18
_LONGEST_TTL = 1 << 50  # milliseconds; Redis counts them from 1970 in 63 bits

Item = TypeVar("Item")
Names = Sequence[bytes | SessionError]


class RedisStorage(Storage):
    """Sessions in Redis (6.0 or newer) or Valkey: a server alone, behind Sentinel, or a cluster.

    A session is a plain string under its key, with Redis's own expiry: `redis-cli GET 424242` shows it. Locks and
    what else is needed are under keys that begin with `!chatsession:`; sessions cannot have such keys.

    Locking and reading is one round trip, committing and unlocking another. All that happens in one turn of the event
    loop shares them, on a handful of connections; an update that waits for another process is woken by a message.

    Durability: a commit that was awaited is in the primary's memory. What a crash of the server takes is settled by
    its `appendfsync`, and what a failover takes by its replication, which is asynchronous: commits of the last
    moments, or the lock of a handler that is running, may be missing on the new primary. A handler whose lock is
    missing there gets `SessionConflictError` and overwrites nothing. With `wait_replicas=N` a commit is only
    acknowledged once N replicas have it, too (`WAIT`), which makes such losses very unlikely, not impossible. Set
    `maxmemory-policy noeviction`: other policies throw sessions away.

    Args:
        server: a URL (`redis://[user:password@]host[:port][/db]`; `rediss://…` for TLS;
            `redis+sentinel://host:port,host:port/service[/db]`; `redis+cluster://host:port,host:port`), or a client
            that you have: its settings are used, its own connections are not, and it is left open.
        wait_replicas: how many replicas must have a commit before it counts.
        retry_for: seconds for which a call is tried again after the connection broke or while the servers fail over.
        time_to_live: seconds after the last access at which a session is forgotten, unless its manager has a `ttl`
            of its own; `None`: never.

    The last three may stand in the URL, too, as in `redis://localhost?wait_replicas=1`; so may `ssl_ca_certs`,
    `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` and `ssl_check_hostname`, and for Sentinel and clusters `tls=true`,
    `sentinel_username` and `sentinel_password`.

    Raises:
        StorageError: the URL is not understood.

    Example:
        >>> from chatsession.storages.redis import RedisStorage
        >>> RedisStorage("redis://:secret@localhost/1")
        <RedisStorage: redis://localhost:6379/1>
    """

    batch_size: ClassVar[int] = 100
    batches_in_flight: ClassVar[int] = 2  # so that server and client do not wait for each other

    def __init__(
        self,
        server: str | Redis | RedisCluster,
        *,
        wait_replicas: int = 0,
        retry_for: float = 10.0,
        time_to_live: float | None = None,
    ) -> None:
        servers, label, given = _servers(server)
        self.time_to_live = given.get("time_to_live", time_to_live)
        self._replicas = int(given.get("wait_replicas", wait_replicas))
        retry_for = given.get("retry_for", retry_for)
        if self.time_to_live is not None and not self.time_to_live > 0:
            raise StorageError("time_to_live is in seconds and must be positive")
        if self._replicas < 0 or not retry_for > 0:
            raise StorageError("wait_replicas and retry_for (seconds) must be positive")
        self._label = label
        self._servers = servers
        self._calls = Calls(servers, f"Redis at {label}", retry_for)
        self._wakeups = Wakeups(servers, f"Redis at {label}")
        self._newest_token = 0
        self._call_names = (f"{secrets.token_hex(8)}{number}" for number in count(1))

    def __repr__(self) -> str:
        return f"<RedisStorage: {self._label}>"

    async def open(self) -> None:
        """Connect, and see that the server will do.

        Raises:
            StorageUnavailableError: it could not be reached within `retry_for` seconds.
            StorageError: it refused the password or the database, is too old, or is a read-only replica.
        """
        self._calls.reopen()
        try:
            await check_server(self._calls, self._servers, f"Redis at {self._label}")
        except BaseException:
            await self._let_go()
            raise
        await super().open()

    async def close(self) -> None:
        """End all connections that were made here."""
        await super().close()
        await self._let_go()

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        names = [name_of(key) for key in keys]

        def prepare(numbers: Sequence[int], chosen: Sequence[bytes]) -> Call:
            return script_call(READ, chosen[0], chosen, ())

        replies = await self._each(names, 2, prepare)
        return [
            reply if isinstance(reply, SessionError) else _record(key, *reply)
            for key, reply in zip(keys, replies, strict=True)
        ]

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        names = [name_of(request.key) for request in requests]
        waiters = [request.waiter for request in requests]

        def prepare(numbers: Sequence[int], chosen: Sequence[bytes]) -> Call:
            keys: list[Word] = []
            arguments: list[Word] = [self._newest_token, self._wakeups.channel]
            for number, name in zip(numbers, chosen, strict=True):
                keys += (name, lock_of(name))
                arguments += (waiters[number], _milliseconds(requests[number].seconds))
            return script_call(LOCK, chosen[0], keys, arguments)

        self._wakeups.ask(waiters)
        try:
            replies = await self._each(names, 3, prepare)
            return [self._locked(request, reply) for request, reply in zip(requests, replies, strict=True)]
        finally:
            self._wakeups.answered(waiters)

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        names = [name_of(change.key) for change in changes]

        def prepare(numbers: Sequence[int], chosen: Sequence[bytes]) -> Call:
            memory = memory_of(chosen[0], next(self._call_names))
            keys: list[Word] = [memory]
            arguments: list[Word] = [_milliseconds(self._calls.retry_for + _MEMORY)]
            for number, name in zip(numbers, chosen, strict=True):
                keys += (name, lock_of(name))
                arguments += _arguments(changes[number])
            return script_call(COMMIT, memory, keys, arguments)

        replies = await self._each(names, 1, prepare, [len(change.value) for change in changes], self._replicas)
        return [
            reply if isinstance(reply, SessionError) else _outcome(change, reply[0])
            for change, reply in zip(changes, replies, strict=True)
        ]

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        names = [name_of(lease.key) for lease in leases]

        def prepare(numbers: Sequence[int], chosen: Sequence[bytes]) -> Call:
            tokens = [leases[number].token for number in numbers]
            return script_call(RENEW, chosen[0], [lock_of(name) for name in chosen], [_milliseconds(seconds), *tokens])

        replies = await self._each(names, 1, prepare)
        return [_only(reply, lease.key) == 1 for lease, reply in zip(leases, replies, strict=True)]

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        for request in requests:
            self._wakeups.forget(request.waiter)
        names = [name_of(request.key) for request in requests]

        def prepare(numbers: Sequence[int], chosen: Sequence[bytes]) -> Call:
            return script_call(
                ABANDON, chosen[0], [lock_of(name) for name in chosen], [requests[number].waiter for number in numbers]
            )

        replies = await self._each(names, 1, prepare)
        for request, reply in zip(requests, replies, strict=True):
            _only(reply, request.key)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        if not await self._wakeups.wait(request.waiter):
            await super().wait_unlocked(request, attempt)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        """As in `Storage`; a key may come twice where Redis's own `SCAN` gives it twice, because tables grow."""
        keys, following = await self.scan_keys(prefix, cursor, limit)
        found = zip(keys, await self.read_many(keys), strict=True)
        return Page([(key, record) for key, record in found if isinstance(record, Record)], following)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        return await _scan.page(self._calls, self._servers, prefix, cursor, limit)

    async def _let_go(self) -> None:
        await self._wakeups.close()
        await self._calls.close()
        await self._servers.close()

    async def _each(
        self,
        names: Names,
        width: int,
        prepare: Callable[[Sequence[int], Sequence[bytes]], Call],
        sizes: Sequence[int] | None = None,
        replicas: int = 0,
    ) -> list[list[Any] | SessionError]:
        """Call a script for all names, in one round trip.

        Args:
            names: the sessions, or why they cannot be.
            width: how many answers the script gives for each.
            prepare: makes the call for some of them, given their numbers and names.
            sizes: how many bytes travel with each.
            replicas: how many replicas must have the changes.

        Returns:
            For each name: the answers, or the error of this session alone.

        Raises:
            StorageError: nothing of it could be done.
        """
        results: list[list[Any] | SessionError] = [name if isinstance(name, SessionError) else [] for name in names]
        portions = _portions(names, self._servers.items_per_script, sizes)
        calls = [prepare(numbers, [cast("bytes", names[number]) for number in numbers]) for numbers in portions]
        await self._calls.run(calls, replicas)
        failures = [call.reply for call in calls if isinstance(call.reply, StorageError)]
        if failures and len(failures) == len(calls):
            raise failures[0]
        for numbers, call in zip(portions, calls, strict=True):
            reply = call.reply
            for place, number in enumerate(numbers):
                results[number] = (
                    reply
                    if isinstance(reply, StorageError)
                    else cast("list[Any]", reply)[width * place : width * (place + 1)]
                )
        return results

    def _locked(self, request: LockRequest, reply: list[Any] | SessionError) -> Locked | SessionError | None:
        if isinstance(reply, SessionError):
            return reply
        token, value, expires_at = reply
        if isinstance(token, Exception):
            return of_key(token, request.key)
        if token == 0:
            self._wakeups.must_wait(request.waiter, value / 1000)
            return None
        self._wakeups.forget(request.waiter)
        self._newest_token = max(self._newest_token, token)
        record = None if value is None else Record(value, _version(value), _expiry(expires_at))
        return Locked(Lease(request.key, token), record)


_MEMORY = 20.0
"""Seconds for which an outcome is remembered after the last attempt that could ask for it."""


def from_url(parts: SplitResult) -> RedisStorage:
    """`redis://`, `rediss://`, `redis+sentinel://` and `redis+cluster://`, as in `RedisStorage`."""
    return RedisStorage(parts.geturl())


def _servers(server: str | Redis | RedisCluster) -> tuple[Servers, str, dict[str, float]]:
    if isinstance(server, RedisCluster):
        return cluster_of(server), "the cluster of the given client", {}
    if isinstance(server, Redis):
        return SingleServer(server.connection_pool), "the server of the given client", {}
    target = parse(urlsplit(server))
    return _make(target), str(target), target.options


def _make(target: Target) -> Servers:
    if target.scheme == "redis+cluster":
        return cluster(target)
    if target.scheme == "redis+sentinel":
        return primary_by_sentinel(target)
    return single_server(target)


def _portions(names: Names, most: int, sizes: Sequence[int] | None) -> list[list[int]]:
    """The numbers of all good names, as many together as one script may handle."""
    portions: list[list[int]] = []
    room, free = 0, 0
    for number, name in enumerate(names):
        if isinstance(name, SessionError):
            continue
        size = sizes[number] if sizes is not None else 0
        if room == 0 or size > free:
            portions.append([])
            room, free = most, _BYTES_PER_SCRIPT
        portions[-1].append(number)
        room -= 1
        free -= size
    return portions


def _arguments(change: Change) -> tuple[Word, ...]:
    expect, ttl, lease = change.expect, change.ttl, change.lease
    return (
        _ACTIONS[change.action],
        "*" if expect is Expect.ANYTHING else "-" if expect is None else cast("str", expect),
        "" if ttl is None else _milliseconds(ttl),
        "" if lease is None else lease.token,
        "1" if change.unlock else "",
        change.value,
    )


def _outcome(change: Change, reply: object) -> Outcome:
    if isinstance(reply, Exception):
        return of_key(reply, change.key)
    if reply == 0:
        return Refused.CONFLICT
    if reply == -1:
        return Refused.LEASE_LOST
    if isinstance(reply, bytes):
        return Committed(None if reply == b"-" else reply.decode())
    if change.action is Action.PUT:
        return Committed(_version(change.value))
    return Committed(None if change.action is Action.DELETE else change.expect)


def _record(key: str, value: bytes | Exception | None, expires_at: int) -> Record | SessionError | None:
    if isinstance(value, Exception):
        return of_key(value, key)
    return None if value is None else Record(value, _version(value), _expiry(expires_at))


def _only(reply: list[Any] | SessionError, key: str) -> object:
    """The one answer for a key; raises what went wrong instead."""
    if isinstance(reply, SessionError):
        raise reply
    if isinstance(reply[0], Exception):
        raise of_key(reply[0], key)
    return reply[0]


def _version(value: bytes) -> str:
    """What is stored is its own version: the scripts make the same digest of it."""
    return sha1(value, usedforsecurity=False).hexdigest()


def _expiry(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


def _milliseconds(seconds: float) -> int:
    return min(max(1, int(min(seconds * 1000, _LONGEST_TTL))), _LONGEST_TTL)
