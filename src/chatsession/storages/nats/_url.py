"""From a `nats:` URL to a storage."""

from __future__ import annotations

import math
from urllib.parse import SplitResult

from chatsession.errors import StorageError
from chatsession.storages.nats._storage import NatsStorage
from chatsession.storages.urls import flag, options


def from_url(parts: SplitResult) -> NatsStorage:
    """Make the storage of `nats://user:password@host:4222/bucket`; options are the arguments of `NatsStorage`."""
    given = options(parts, {"replicas", "credentials", "retry_for", "sweep_interval", "single_process"})
    if not parts.hostname:
        raise StorageError("a nats: URL must name a server, as in nats://127.0.0.1:4222")
    return NatsStorage(
        parts._replace(path="", query="", fragment="").geturl(),
        bucket=parts.path.strip("/") or "sessions",
        replicas=_replicas(given.get("replicas", "1")),
        credentials=given.get("credentials"),
        retry_for=_seconds("retry_for", given.get("retry_for", "10")),
        sweep_interval=_seconds("sweep_interval", given.get("sweep_interval", "600")),
        single_process=flag(given, "single_process"),
    )


def _replicas(text: str) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text[:3]) <= 5:
        return int(text[:3])
    raise StorageError("replicas in the nats: URL must be a whole number from 1 to 5")


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise StorageError(f"{name} in the nats: URL must be a positive number of seconds")
    return seconds
