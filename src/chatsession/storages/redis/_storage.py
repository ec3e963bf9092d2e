"""The storage: sessions as plain strings, locks beside them, and a script for each operation."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import ClassVar
from urllib.parse import SplitResult

from redis.asyncio import Redis, RedisCluster

from chatsession.errors import SessionError, SessionTooLargeError, StorageError
from chatsession.storages.base import KEEP, PUT, Change, Lease, Locked, LockRequest, Outcome, Page, Record, Storage
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.redis import _inspection, _scan
from chatsession.storages.redis._batches import only, replies_for
from chatsession.storages.redis._call import Call
from chatsession.storages.redis._calls import Calls
from chatsession.storages.redis._connection import LARGE, Word
from chatsession.storages.redis._errors import of_key
from chatsession.storages.redis._names import lock_of, memory_of, name_of, new_of, with_locks
from chatsession.storages.redis._records import (
    expectation,
    milliseconds,
    outcome_of,
    pack,
    record_of,
    words_of,
)
from chatsession.storages.redis._scripts import ABANDON, COMMIT, LOCK, READ, RENEW
from chatsession.storages.redis._targets import servers_of
from chatsession.storages.redis._wakeups import Wakeups

_MEMORY = 20.0
"""Seconds for which an outcome is remembered after the last possible retry."""


class RedisStorage(Storage):
    """Sessions in Redis (6.0 or newer) or Valkey: one server, a primary behind Sentinel, or a cluster.

    A session is a plain string under its key, with Redis's own expiry: `redis-cli GET 424242` shows it. Locks and
    other auxiliary data are under keys that begin with `!chatsession:`; sessions cannot have such keys.

    Locking and reading take one round trip, committing and unlocking another. Calls of one turn of the event loop
    share them, on a few connections. An update that waits for another process is woken by a message. A shard of a
    cluster that does not answer delays the sessions on it only.

    Durability: a commit that was awaited is in the primary's memory. What a crash of the server loses depends on its
    `appendfsync`. Replication is asynchronous: after a failover, the last commits or the lock of a running handler may
    be missing on the new primary. A handler whose lock is missing gets `SessionConflictError` and overwrites nothing.
    With `wait_replicas=N` a commit is acknowledged when N replicas have it (`WAIT`), which makes such losses very
    unlikely, but not impossible; while there are fewer replicas, commits fail with `StorageUnavailableError`. Set
    `maxmemory-policy noeviction`: other policies delete sessions, and the log warns of them.

    Every commit leaves a key `!chatsession:done:…` for half a minute, by which a repeated commit is recognized. Of a
    session of 2 KiB or more the server keeps a copy while it is locked (from Redis 6.2 on). A commit compares what is
    stored with the copy, or with the value that was read, so that every write of other programs is noticed. While
    a cluster moves a slot, sessions in it wait until it has moved. Sessions expire by the server's clock.

    An access list (ACL) for a manager with `prefix="bot:"` needs the keys `~bot:* ~!prefix:bot:* ~!chatsession:*`,
    the channels `&!chatsession:*` and the commands `+@read +@write +@scripting +@pubsub +@connection +info +time`.
    Without the channels, waiting updates poll every 25 ms. Proxies need not support `SCRIPT LOAD` or `EVALSHA`.

    Args:
        server: a URL (`redis://[user:password@]host[:port][/db]`; `rediss://…` for TLS; `valkey://…` and `valkeys://…`
            mean the same; `redis+unix:///path/to/redis.sock[?db=0]` or `unix://…` for a Unix socket;
            `redis+sentinel://host:port,host:port/service[/db]`; `redis+cluster://host:port,host:port`), or your own
            client: only its settings are used, for new connections, so that the client itself is neither shared with
            other event loops or processes nor closed.
        wait_replicas: how many replicas must have a commit before it is acknowledged.
        retry_for: seconds for which a call is retried after a connection broke or while the servers fail over.
        time_to_live: seconds after the last access at which a session expires, unless its manager has a `ttl` of its
            own; `None`: never.
        single_process: no other process or program uses these sessions (see `Storage.single_process`).

    The last four may also be options of the URL, as in `redis://localhost?wait_replicas=1`; so may `ssl_ca_certs`,
    `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` and `ssl_check_hostname`, and for Sentinel and clusters `tls=true`,
    `sentinel_username` and `sentinel_password`.

    Raises:
        StorageError: the URL is invalid.

    Examples:
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
        single_process: bool = False,
    ) -> None:
        servers, label, given = servers_of(server)
        self.single_process = bool(given.get("single_process", single_process))
        self.time_to_live = given.get("time_to_live", time_to_live)
        self._replicas = int(given.get("wait_replicas", wait_replicas))
        retry_for = float(given.get("retry_for", retry_for))
        if self.time_to_live is not None and not self.time_to_live > 0:
            raise StorageError("time_to_live is in seconds and must be positive")
        if self._replicas < 0 or not retry_for > 0:
            raise StorageError("wait_replicas and retry_for (seconds) must be positive")
        self._label = label
        self._servers = servers
        self._retry_for = retry_for
        self._newest_token = 0
        self._calls = self._make_calls()
        self._take_names()

    def __repr__(self) -> str:
        return f"<RedisStorage: {self._label}>"

    def now(self) -> float:
        return self._calls.clock.now()

    def lane_of(self, key: str) -> str:
        if not (self._servers.clustered and self._servers.located):
            return ""
        name = name_of(key)
        return "" if isinstance(name, SessionError) else self._servers.place_of(name)

    async def open(self) -> None:
        """Connect, and check that the server is suitable.

        Raises:
            StorageUnavailableError: it could not be reached within `retry_for` seconds.
            StorageError: it refused the password or the database, is too old, or is a read-only replica.
        """
        if not self.is_open:
            self._take_names()
        self._calls.reopen()
        try:
            await _inspection.check_server(self._calls)
        except BaseException:
            await self._let_go()
            raise
        await super().open()

    async def close(self) -> None:
        """Close all connections that were made here."""
        await super().close()
        await self._let_go()

    def forget(self, *, inherited: bool) -> None:
        # The same in both cases: nothing is sent, and this process closes its own descriptors.
        self._servers.forget()
        self._wakeups.forget()
        self._calls = self._make_calls()
        self._take_names()
        super().forget(inherited=inherited)

    async def read_many(self, keys: Sequence[str]) -> Sequence[Record | SessionError | None]:
        def prepare(names: Sequence[bytes], _: Sequence[str]) -> Call:
            return Call(READ.command(names), ("MGET", *names), name=names[0], script=READ)

        replies = await replies_for(self._calls, keys, keys, prepare)
        return [
            reply if isinstance(reply, SessionError) else _read(key, *reply)
            for key, reply in zip(keys, replies, strict=True)
        ]

    async def lock_many(self, requests: Sequence[LockRequest]) -> Sequence[Locked | SessionError | None]:
        def prepare(names: Sequence[bytes], requests: Sequence[LockRequest]) -> Call:
            waiters = [request.waiter for request in requests]
            leases = [milliseconds(request.seconds) for request in requests]
            words = pack((self._newest_token, self._wakeups.channel, waiters, leases))
            return Call(LOCK.command(with_locks(names), words), ("MGET", *names), name=names[0], script=LOCK)

        replies = await replies_for(self._calls, [request.key for request in requests], requests, prepare)
        return [
            reply if isinstance(reply, SessionError) else self._locked(request, *reply)
            for request, reply in zip(requests, replies, strict=True)
        ]

    async def commit_many(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        replies = await replies_for(
            self._calls, [change.key for change in changes], changes, self._commit_call, self._replicas
        )
        unmade = [
            Change(change.key, KEEP, lease=change.lease, unlock=True)
            for change, reply in zip(changes, replies, strict=True)
            if type(reply) is SessionTooLargeError and change.lease is not None and change.unlock
        ]
        if unmade:
            with suppress(StorageError):  # the lease ends anyway
                await self.commit_many(unmade)
        return [
            reply if isinstance(reply, SessionError) else outcome_of(change, *reply)
            for change, reply in zip(changes, replies, strict=True)
        ]

    async def renew_many(self, leases: Sequence[Lease], seconds: float) -> Sequence[bool]:
        def prepare(names: Sequence[bytes], leases: Sequence[Lease]) -> Call:
            tokens = [lease.token for lease in leases]
            command = RENEW.command([lock_of(name) for name in names], milliseconds(seconds), *tokens)
            return Call(command, name=names[0], script=RENEW)

        replies = await replies_for(self._calls, [lease.key for lease in leases], leases, prepare)
        return [only(reply, lease.key) == 1 for lease, reply in zip(leases, replies, strict=True)]

    async def abandon_many(self, requests: Sequence[LockRequest]) -> None:
        def prepare(names: Sequence[bytes], requests: Sequence[LockRequest]) -> Call:
            waiters = [request.waiter for request in requests]
            return Call(ABANDON.command([lock_of(name) for name in names], *waiters), name=names[0], script=ABANDON)

        for request in requests:
            self._wakeups.waiters.stop_waiting(request.waiter)
        replies = await replies_for(self._calls, [request.key for request in requests], requests, prepare)
        for request, reply in zip(requests, replies, strict=True):
            only(reply, request.key)

    async def wait_unlocked(self, request: LockRequest, attempt: int) -> None:
        if not await self._wakeups.wait(request.waiter):
            await super().wait_unlocked(request, attempt)

    async def scan(self, prefix: str, cursor: str | None, limit: int) -> Page:
        """As in `Storage`; a key may come twice where Redis's own `SCAN` gives it twice, because tables grow."""
        keys, following = await self.scan_keys(prefix, cursor, limit)
        found = zip(keys, await self.read_many(keys), strict=True)
        return Page([(key, record) for key, record in found if isinstance(record, Record)], following)

    async def scan_keys(self, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
        return await _scan.page(self._calls, prefix, cursor, limit)

    async def list_locks(self, prefix: str, limit: int) -> Sequence[HeldLock]:
        return await _inspection.locks(self._calls, prefix, limit)

    async def facts(self) -> Sequence[Fact]:
        return await _inspection.facts(self._calls, self._replicas)

    def _make_calls(self) -> Calls:
        return Calls(self._servers, f"Redis at {self._label}", self._retry_for)

    def _take_names(self) -> None:
        """Draw the names of calls and of the channel, which no other process may use as well."""
        self._wakeups = Wakeups(self._servers, self._calls.label)
        self._call_names = map(f"{secrets.token_hex(8)}{{}}".format, count(1))

    async def _let_go(self) -> None:
        await self._wakeups.close()
        await self._calls.close()
        await self._servers.close()

    def _commit_call(self, names: Sequence[bytes], changes: Sequence[Change]) -> Call:
        call = next(self._call_names)
        memory, keep = memory_of(names[0], call), milliseconds(self._calls.retry_for + _MEMORY)
        sent: list[Sequence[Word]] = []
        words: list[object] = []
        values: list[bytes] = []
        for name, change in zip(names, changes, strict=True):
            expected, given = expectation(change)
            value, sent_to = change.value, ""
            if change.action is PUT and len(value) >= LARGE:
                sent_to = new_of(name, call).decode()
                sent.append(("SET", sent_to, value, "PX", keep))
                value = b""
            words += words_of(change, expected, sent_to)
            values += (value, given)
        command = COMMIT.command([memory, *with_locks(names)], keep, pack(words), *values)
        return Call(*sent, command, name=memory, script=COMMIT)

    def _locked(
        self, request: LockRequest, token: int | Exception, mark: int, expires_at: int, value: bytes | None
    ) -> Locked | SessionError | None:
        if isinstance(token, Exception):
            return of_key(token, request.key)
        if token == 0:
            milliseconds_left = mark
            self._wakeups.must_wait(request.waiter, milliseconds_left / 1000)
            return None
        self._wakeups.waiters.stop_waiting(request.waiter)
        if token > self._newest_token:
            self._newest_token = token
        record = None if value is None else record_of(value, expires_at, token, mark)
        return Locked(Lease(request.key, token), record)


def _read(key: str, expires_at: int | Exception, value: bytes | None) -> Record | SessionError | None:
    if isinstance(expires_at, Exception):
        return of_key(expires_at, key)
    return None if value is None else record_of(value, expires_at)


def from_url(parts: SplitResult) -> RedisStorage:
    """Make the storage of a URL; see `RedisStorage`."""
    return RedisStorage(parts.geturl())
