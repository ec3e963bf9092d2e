"""From a `nats:` URL to a storage."""

from __future__ import annotations

from urllib.parse import SplitResult

from chatsession.errors import StorageError
from chatsession.storages.nats._storage import NatsStorage
from chatsession.storages.urls import check_files, flag, options, positive


def from_url(parts: SplitResult) -> NatsStorage:
    """Make the storage of `nats://user:password@host:4222,host:4222/bucket`; options are arguments of `NatsStorage`."""
    given = options(parts, {"replicas", "credentials", "retry_for", "sweep_interval", "single_process"})
    check_files(given, ["credentials"])
    login, at, hosts = parts.netloc.rpartition("@")
    return NatsStorage(
        [f"nats://{login}{at}{host}" for host in hosts.split(",")],
        bucket=parts.path.strip("/") or "sessions",
        replicas=_replicas(given.get("replicas", "1")),
        credentials=given.get("credentials"),
        retry_for=positive(given, "retry_for") or 10.0,
        sweep_interval=positive(given, "sweep_interval") or 600.0,
        single_process=flag(given, "single_process"),
    )


def _replicas(text: str) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text[:3]) <= 5:
        return int(text[:3])
    raise StorageError("replicas in the nats: URL must be a whole number from 1 to 5")
