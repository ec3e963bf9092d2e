"""Facts for operators: the locks, the bucket and the server."""

from __future__ import annotations

from nats.aio.client import Client

from chatsession.errors import StorageError
from chatsession.storages.inspection import Fact, HeldLock, size_text
from chatsession.storages.nats._bucket import Bucket
from chatsession.storages.nats._eras import ERA_NAME
from chatsession.storages.nats._listing import Listing
from chatsession.storages.nats._names import key_of
from chatsession.storages.nats._records import Stored

_PAGE = 200


async def locks(bucket: Bucket, listing: Listing, prefix: str, limit: int) -> list[HeldLock]:
    """`ListsLocks.list_locks`; reads all entries with this prefix."""
    held: list[HeldLock] = []
    cursor = None
    while len(held) < limit:
        names, cursor = await listing.after(cursor, _PAGE)
        keys = [(name, key) for name in names if (key := key_of(name)) is not None and key.startswith(prefix)]
        now = bucket.now()
        for (_, key), stored in zip(keys, await bucket.get_all([name for name, _ in keys]), strict=True):
            if isinstance(stored, Stored) and stored.token is not None and stored.entry.is_locked(now):
                waiters = len(stored.entry.awaited_by(now))
                held.append(HeldLock(key, stored.token, stored.entry.until, waiters=waiters))
        if cursor is None:
            break
    return held[:limit]


async def facts(client: Client, bucket: Bucket) -> list[Fact]:
    """`Tells.facts`."""
    info = await bucket.info()
    if info.error is not None:
        raise StorageError(f"NATS refused to describe the bucket: {info.error.description}")
    config, state = info.config, info.state
    version = client.connected_server_version
    (era,) = await bucket.get_all([ERA_NAME])
    return [
        Fact("NATS server", f"{version.major}.{version.minor}.{version.patch}"),
        Fact("bucket", f"{state.messages:,} messages, {size_text(state.bytes)}"),
        Fact("era", str(era.entry.era) if isinstance(era, Stored) and era.revision else "none yet"),
        Fact(
            "replicas",
            str(config.num_replicas),
            None
            if config.num_replicas > 1
            else "one server keeps the sessions; a power cut may take what it was given since its last sync "
            "(sync_interval in its configuration), and without it no update is possible",
        ),
        Fact(
            "kept in",
            config.storage,
            None if config.storage == "file" else "the sessions are lost when the servers stop; use file storage",
        ),
        Fact("expired sessions", "removed by the server" if bucket.expires_by_itself else "removed by a sweep"),
    ]
