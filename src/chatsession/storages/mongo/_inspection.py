"""What the storage can tell operators about its locks, its expired sessions and its server."""

from __future__ import annotations

from collections.abc import Sequence

from chatsession.storages.inspection import Fact, HeldLock
from chatsession.storages.mongo._connection import Collection
from chatsession.storages.mongo._layouts import Layout
from chatsession.storages.mongo._records import date_of, seconds_of
from chatsession.storages.mongo._scanning import with_prefix


async def locks(collection: Collection, layout: Layout, prefix: str, limit: int, now: float) -> Sequence[HeldLock]:
    """`ListsLocks.list_locks`."""
    query = {"$and": [{"lock.until": {"$gt": date_of(now)}}, with_prefix(layout, prefix)]}
    held: list[HeldLock] = []
    async for document in collection.find(query, {layout.key: True, "lock": True, "queue": True}).limit(limit):
        lock = document["lock"]
        until, since = seconds_of(lock["until"]), seconds_of(lock["since"])
        assert until is not None
        waiters = len(document.get("queue", ()))
        holder = f"process {str(lock['waiter']).partition('-')[0]}"
        held.append(HeldLock(document[layout.key], int(lock["token"]), until, holder, since, waiters))
    return held


async def expired(collection: Collection, now: float) -> int:
    """`CountsExpired.count_expired`."""
    return await collection.count_documents({"expires_at": {"$lte": date_of(now)}})


async def facts(collection: Collection) -> Sequence[Fact]:
    """`Tells.facts`."""
    admin = collection.database.client.admin
    build, hello = await admin.command("buildInfo"), await admin.command("hello")
    stats = await collection.database.command("collStats", collection.name)
    replicas = hello.get("setName")
    concern = collection.write_concern.document
    is_safe = concern.get("w") == "majority" and concern.get("j", True)
    return [
        Fact("MongoDB", str(build["version"])),
        Fact("replica set", str(replicas or "none"), None if replicas else "a crash of this one server stops the bot"),
        Fact(
            "write concern",
            ", ".join(f"{name}={value}" for name, value in concern.items()),
            None if is_safe else "a failover or a crash may undo the last commits; leave w and journal out of the URL",
        ),
        Fact("documents", f"{stats.get('count', 0):,}"),
        Fact("collection and indexes", f"{stats.get('storageSize', 0) + stats.get('totalIndexSize', 0):,} bytes"),
        Fact("waiting updates are woken", "yes" if replicas or hello.get("msg") == "isdbgrid" else "no: they poll"),
    ]
