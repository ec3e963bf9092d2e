"""Inspects servers: whether they are suitable, which locks are held, and what operators should know."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, cast

import msgspec

from chatsession.errors import StorageError
from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.redis._call import Call
from chatsession.storages.redis._calls import Calls
from chatsession.storages.redis._names import LOCK, locked_by
from chatsession.storages.redis._servers import Servers

_log = logging.getLogger("chatsession")

_OLDEST = (6, 0)
_TOKENS_FROM = 1_500_000_000_000_000
"""Microseconds since 1970; a token is the time at which it was issued, unless a clock was set back."""


async def check_server(calls: Calls) -> None:
    """Raise `StorageError` if the server is unsuitable, and `StorageUnavailableError` if it cannot be reached."""
    info = Call(("INFO",), name=b"any key will do")
    await calls.run([info])
    fields = _fields_of(info.reply())
    reason = unsuitability(fields, calls.servers)
    if reason is not None:
        raise StorageError(f"{calls.label} cannot keep sessions: {reason}")
    policy = fields.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        _log.warning(
            "%s deletes sessions and locks when its memory is full (maxmemory-policy %s); set noeviction",
            calls.label,
            policy,
        )


def unsuitability(facts: Mapping[str, str], servers: Servers) -> str | None:
    """Return why a server is unsuitable, from its `INFO`; `None`: it is suitable."""
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST:
        return f"it is Redis {version or 'of no known version'}, and 6.0 or newer (or Valkey) is needed"
    if facts.get("cluster_enabled") == "1" and not servers.clustered:
        return "it is part of a cluster; use a redis+cluster: URL"
    if facts.get("role") == "slave" and facts.get("slave_read_only") == "1" and not servers.follow_primary:
        return "it is a read-only replica; use the address of its primary, or of its sentinels (redis+sentinel:)"
    return None


async def locks(calls: Calls, prefix: str, limit: int) -> Sequence[HeldLock]:
    """Implement `ListsLocks.list_locks`; scans all keys of all servers, a part at a time."""
    held: dict[str, HeldLock] = {}
    async for names in _lock_names(calls):
        gets = [Call(("GET", name), name=name) for name in names]
        await calls.run(gets)
        for name, get in zip(names, gets, strict=True):
            lock = _lock(name, get.reply(), calls.clock.now())
            if lock is not None and lock.key.startswith(prefix) and len(held) < limit:
                held[lock.key] = lock
    return sorted(held.values(), key=lambda lock: lock.key)


async def facts(calls: Calls, replicas: int) -> Sequence[Fact]:
    """Implement `Tells.facts`, for each server with sessions."""
    await calls.locate()
    found: list[Fact] = []
    for _, place in calls.servers.places():
        info = Call(("INFO",), place=place)
        await calls.run([info])
        fields = _fields_of(info.reply())
        found += _facts_of(fields, f"{place}: " if place else "")
    found.append(Fact("replicas that a commit waits for", str(replicas)))
    return found


def _fields_of(info: object) -> dict[str, str]:
    text = info.decode(errors="replace") if isinstance(info, bytes) else str(info)
    return dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))


def _facts_of(fields: dict[str, str], at: str) -> list[Fact]:
    program = "Valkey" if "valkey_version" in fields else "Redis"
    policy = fields.get("maxmemory_policy", "not known")
    limit = fields.get("maxmemory_human", "?")
    of = "without a limit" if limit == "0B" else f"of {limit}"
    appends = fields.get("aof_enabled") == "1"
    saved = fields.get("rdb_last_bgsave_status", "not known")
    return [
        Fact(f"{at}{program}", fields.get(f"{program.lower()}_version", "not known")),
        Fact(f"{at}mode and role", f"{fields.get('redis_mode', '?')}, {fields.get('role', '?')}"),
        Fact(
            f"{at}maxmemory-policy",
            policy,
            None if policy == "noeviction" else "sessions are thrown away when memory is full; set noeviction",
        ),
        Fact(f"{at}memory", f"{fields.get('used_memory_human', '?')} {of}"),
        Fact(
            f"{at}append-only file",
            "on" if appends else "off",
            None if appends else "a restart loses what came after the last snapshot; set appendonly yes",
        ),
        Fact(
            f"{at}last snapshot",
            saved,
            "it failed; see the server's log" if saved == "err" else None,
        ),
        Fact(f"{at}replicas connected", fields.get("connected_slaves", "not known")),
    ]


async def _lock_names(calls: Calls) -> AsyncGenerator[list[bytes]]:
    await calls.locate()
    for _, place in calls.servers.places():
        position = b"0"
        while True:
            scan = Call(("SCAN", position, "MATCH", LOCK + b"*", "COUNT", 1000), place=place)
            await calls.run([scan])
            position, names = cast("tuple[bytes, list[bytes]]", scan.reply())
            if names:
                yield names
            if position == b"0":
                break


def _lock(name: bytes, packed: object, now: float) -> HeldLock | None:
    key = locked_by(name)
    if key is None or type(packed) is not bytes:
        return None
    token, ends, holder, queue, *_ = cast("list[Any]", msgspec.msgpack.decode(packed))
    if ends / 1000 <= now:
        return None
    since = token / 1_000_000 if _TOKENS_FROM < token <= (now + 60) * 1_000_000 else None
    return HeldLock(key, int(token), ends / 1000, f"process {holder.partition('-')[0]}", since, len(queue))
