"""Facts for operators: the locks, the expired sessions and the server."""

from __future__ import annotations

from collections.abc import Sequence

from chatsession.storages.inspection import Fact, HeldLock, size_text
from chatsession.storages.mongo._calls import Calls
from chatsession.storages.mongo._connection import Collection
from chatsession.storages.mongo._records import date_of, seconds_of
from chatsession.storages.mongo._scanning import with_prefix


async def locks(calls: Calls, prefix: str, limit: int) -> Sequence[HeldLock]:
    """`ListsLocks.list_locks`."""
    name = calls.layout.key
    query = {
        "$and": [
            {"lock.until": {"$gt": date_of(calls.now())}, "lock.token": {"$type": "long"}},
            with_prefix(calls.layout, prefix),
        ]
    }

    fields = {name: True, "lock": True, "queue": True}
    held: list[HeldLock] = []
    for document in await calls.run(lambda _: calls.collection.find(query, fields).limit(limit).to_list()):
        lock = document["lock"]
        until, since = seconds_of(lock["until"]), seconds_of(lock.get("since"))
        assert until is not None
        waiters = len(document.get("queue", ()))
        holder = f"process {str(lock.get('waiter')).partition('-')[0]}"
        held.append(HeldLock(document[name], int(lock["token"]), until, holder, since, waiters))
    return held


async def expired(calls: Calls) -> int:
    """`CountsExpired.count_expired`."""
    query = {"expires_at": {"$lte": date_of(calls.now())}}
    return await calls.run(lambda _: calls.collection.count_documents(query))


async def facts(calls: Calls) -> Sequence[Fact]:
    """`Tells.facts`."""
    return await calls.run(lambda _: _facts(calls.collection))


async def _facts(collection: Collection) -> Sequence[Fact]:
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
        Fact("collection and indexes", size_text(stats.get("storageSize", 0) + stats.get("totalIndexSize", 0))),
        Fact("waiting updates are woken", "yes" if replicas or hello.get("msg") == "isdbgrid" else "no: they poll"),
    ]
