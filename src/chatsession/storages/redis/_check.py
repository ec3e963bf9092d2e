"""Looks at a server before it is entrusted with sessions."""

from __future__ import annotations

import re

from chatsession.errors import StorageError
from chatsession.storages.redis._calls import Call, Calls
from chatsession.storages.redis._servers import Servers

_OLDEST = (6, 0)


async def check_server(calls: Calls, servers: Servers, label: str) -> None:
    """Raise `StorageError` if the server can be reached, but will not do; `StorageUnavailableError` if it cannot."""
    info = Call(("INFO",), name=b"any key will do")
    await calls.run([info])
    if isinstance(info.reply, StorageError):
        raise info.reply
    trouble = objection(info.reply, servers)
    if trouble is not None:
        raise StorageError(f"{label} cannot keep sessions: {trouble}")


def objection(info: object, servers: Servers) -> str | None:
    """What speaks against a server that says this of itself."""
    facts = dict(re.findall(r"^(\w+):(.*?)\r?$", _text(info), re.MULTILINE))
    version = facts.get("redis_version", "")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST:
        return f"it is Redis {version or 'of no known version'}, and 6.0 or newer (or Valkey) is needed"
    if facts.get("cluster_enabled") == "1" and not servers.clustered:
        return "it is part of a cluster; use a redis+cluster: URL"
    if facts.get("role") == "slave" and facts.get("slave_read_only") == "1" and not servers.follow_primary:
        return "it is a read-only replica; use the address of its primary, or of its sentinels (redis+sentinel:)"
    return None


def _text(info: object) -> str:
    return info.decode(errors="replace") if isinstance(info, bytes) else str(info)
