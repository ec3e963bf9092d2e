"""MongoDB passes the whole suite: a replica set, a server that is none, and grammY's documents."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from _mongo_proxy import MongoProxy
from bson import Decimal128, ObjectId, encode
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.collection import Collection

from chatsession import SessionConflictError, SessionManager, SessionTooLargeError, open_storage
from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages import Action, Change, Committed, Locked
from chatsession.storages.mongo import MongoStorage, _locks
from chatsession.testing.conformance.fencing import FencingTests
from chatsession.testing.conformance.life import LifeTests
from chatsession.testing.conformance.locks import LockTests
from chatsession.testing.conformance.managers import ManagerTests
from chatsession.testing.conformance.single import (
    commit,
    delete,
    lock,
    put,
    request,
    scan_all_keys,
    try_lock,
    unlock,
    value_of,
)
from chatsession.testing.storages import MakeStorage, StorageConformance
from tools.servers._process import free_ports
from tools.servers.mongo import MongoServer

_collections = (f"sessions_{number}" for number in count())


@pytest.fixture
def collection() -> str:
    return next(_collections)


@pytest.fixture(scope="module")
def standalone() -> Iterator[MongoServer]:
    with MongoServer(user="b@t", password="p@ss:w/rd") as server:
        yield server


class TestMongoStorage(StorageConformance):
    @pytest.fixture
    def make_storage(self, mongo_server: MongoServer, collection: str) -> MakeStorage:
        return lambda: MongoStorage(mongo_server.url, collection=collection)


class TestWithoutReplicaSet(LifeTests, LockTests, FencingTests, ManagerTests):
    """Waiters poll there, and no majority confirms a commit; the statements are the same."""

    @pytest.fixture
    def make_storage(self, standalone: MongoServer, collection: str) -> MakeStorage:
        return lambda: MongoStorage(standalone.url, collection=collection)


class TestInGrammysDocuments(StorageConformance):
    @pytest.fixture
    def make_storage(self, mongo_server: MongoServer, collection: str) -> MakeStorage:
        return lambda: MongoStorage(mongo_server.url, collection=collection, layout="grammy")


@pytest.fixture
async def storage(mongo_server: MongoServer, collection: str) -> AsyncIterator[MongoStorage]:
    async with MongoStorage(mongo_server.url, collection=collection) as storage:
        yield storage


@pytest.fixture
async def other(mongo_server: MongoServer, storage: MongoStorage, collection: str) -> AsyncIterator[MongoStorage]:
    async with MongoStorage(mongo_server.url, collection=collection) as other:
        yield other


@pytest.fixture
def documents(mongo_server: MongoServer, collection: str) -> Iterator[Collection[dict[str, Any]]]:
    with mongo_server.client() as client:
        yield client.bot[collection]


async def test_an_update_is_two_round_trips(mongo_server: MongoServer, collection: str) -> None:
    async with (
        MongoProxy(mongo_server.port) as proxy,
        MongoStorage(proxy.url, collection=collection) as storage,
        SessionManager(dict[str, int], storage=storage) as sessions,
    ):

        async def trips_of(key: str, *, change: bool) -> int:
            before = proxy.trips
            async with sessions.open(key) as session:
                if change:
                    session.data["count"] = session.data.get("count", 0) + 1
            return proxy.trips - before

        assert [await trips_of("chat", change=True) for _ in range(5)] == [2] * 5
        assert [await trips_of("chat", change=False) for _ in range(5)] == [2] * 5
        before = proxy.trips
        await asyncio.gather(*(trips_of(f"chat-{n}", change=True) for n in range(200)))
        assert proxy.trips - before < 40, "sessions that are open at the same time travel together"


async def test_the_sessions_of_an_update_are_locked_in_one_trip(mongo_server: MongoServer, collection: str) -> None:
    async with (
        MongoProxy(mongo_server.port) as proxy,
        MongoStorage(proxy.url, collection=collection) as storage,
        SessionManager(int, storage=storage) as sessions,
        asyncio.timeout(60),
    ):
        for _ in range(2):  # absent, then stored
            before = proxy.trips
            proxy.silent_until = before + 3
            async with sessions.open_many(["chat", "user", "topic"]) as opened:
                for session in opened:
                    session.data += 1
            assert proxy.trips - before == 4, "one command locks and reads each, and one commits them all"


async def test_one_process_needs_one_round_trip(mongo_server: MongoServer, collection: str) -> None:
    async with (
        MongoProxy(mongo_server.port) as proxy,
        MongoStorage(proxy.url, collection=collection, single_process=True) as storage,
        SessionManager(int, storage=storage) as sessions,
    ):
        await sessions.update("chat", lambda count: count + 1)
        before = proxy.trips
        for _ in range(5):
            await sessions.update("chat", lambda count: count + 1)
        assert proxy.trips - before == 5


async def test_people_can_query_it(storage: MongoStorage, documents: Collection[dict[str, Any]]) -> None:
    await put(storage, "424242", b'{"cart":{"total":120},"name":"\xd0\x9c\xd0\xb0\xd1\x88\xd0\xb0"}')
    await put(storage, "-1001", b'{"cart":{"total":80}}')
    await put(storage, "encrypted", b"\x80\0\xff")
    (found,) = documents.find({"value.cart.total": {"$gt": 100}})
    assert found["_id"] == "424242"
    assert found["value"]["name"] == "Маша"
    encrypted = documents.find_one({"_id": "encrypted"})
    assert encrypted is not None
    assert encrypted["value"] == b"\x80\0\xff"


@pytest.mark.parametrize(
    "value",
    [
        b'{"$set":{"a.b":"$name"},"":[{"$literal":1}],"_id":0}',
        b'"$name"',
        b"null",
        b"[9223372036854775807,-9223372036854775808]",
        b"[9223372036854775808]",
        b"[1.0,1e+22,-0.0]",
        b'{"a\\u0000b":1}',
        b'{"a":1,"a":2}',
        b'{ "spaces": true }',
        b"[" * 150 + b"]" * 150,
        b'"\\ud83c\\udf55"',
    ],
)
async def test_every_json_comes_back_as_the_same_bytes(storage: MongoStorage, value: bytes) -> None:
    await put(storage, "chat", value)
    assert await value_of(storage, "chat") == value


async def test_a_value_beyond_16_mb_is_a_clear_error(storage: MongoStorage) -> None:
    await put(storage, "small", b"1")
    outcomes = await storage.commit_many(
        [
            Change("large", Action.PUT, b'"' + b"x" * (17 * 2**20) + b'"'),
            Change("small", Action.PUT, b"2"),
            Change("bytes", Action.PUT, b"\xff" * (15 * 2**20)),
        ]
    )
    assert isinstance(outcomes[0], SessionTooLargeError)
    assert outcomes[0].key == "large"
    assert [type(outcome) for outcome in outcomes[1:]] == [Committed, Committed]
    assert await value_of(storage, "small") == b"2"
    assert await value_of(storage, "bytes") == b"\xff" * (15 * 2**20)


async def test_sessions_of_any_kind_are_committed_together(
    storage: MongoStorage, documents: Collection[dict[str, Any]], mongo_server: MongoServer
) -> None:
    values = {
        "small": b"1",
        "large": b'"' + b"x" * (17 * 2**20) + b'"',
        "grows as BSON": b"[" + b",".join([b"1"] * 700_000) + b"]",
        "grows too": b"[" + b",".join([b"2"] * 700_000) + b"]",
        "deep": b"[" * 90 + b"]" * 90,
        "a.b": b'{"$set":{"a.b":"$name"},"":[{"$literal":1}]}',
        "$key": b'"$name"',
        "a\0b": b'{"a\\u0000b":1}',
        "x" * 2**20: b"null",
        "y" * 2**20: b"null",
        "bytes": b"\xff" * 2**20,
    }
    for seen in (None, b"7"):
        if seen:
            for key in values:
                await put(storage, key, seen)
        locked = await storage.lock_many([request(key) for key in values])
        if seen is None:
            locked = [await lock(storage, key) if locked[n] is None else locked[n] for n, key in enumerate(values)]
        changes: list[Change] = []
        for each, (key, value) in zip(locked, values.items(), strict=True):
            assert isinstance(each, Locked)
            assert (each.record and each.record.value) == seen
            version = each.record and each.record.version
            changes.append(Change(key, Action.PUT, value, version, lease=each.lease, unlock=True))
        for change, outcome in zip(changes, await storage.commit_many(changes), strict=True):
            if change.key == "large":
                assert isinstance(outcome, SessionTooLargeError)
                continue
            assert isinstance(outcome, Committed), change.key
            assert await value_of(storage, change.key) == change.value
        assert await value_of(storage, "large") == seen
        assert documents.count_documents({"lock": {"$exists": True}}) == 0
        for key in values:
            await delete(storage, key)


async def test_a_session_that_the_server_refuses_fails_alone(
    storage: MongoStorage, documents: Collection[dict[str, Any]]
) -> None:
    keys = ["before", "unlucky", "after"]
    for key in keys:
        await put(storage, key, b"1")
    documents.database.command("collMod", documents.name, validator={"value": {"$ne": 13}})
    changes = [
        Change(each.lease.key, Action.PUT, value, each.record.version, lease=each.lease, unlock=True)
        for each, value in zip(await storage.lock_many(list(map(request, keys))), [b"2", b"13", b"2"], strict=True)
        if isinstance(each, Locked) and each.record is not None
    ]
    before, refused, after = await storage.commit_many(changes)
    assert isinstance(before, Committed)
    assert isinstance(refused, StorageError)
    assert str(refused).startswith("session 'unlucky': MongoDB at 127.0.0.1:")
    assert "validator" in str(refused)
    assert isinstance(after, Committed)
    assert [await value_of(storage, key) for key in keys] == [b"2", b"1", b"2"]
    assert documents.count_documents({"lock": {"$exists": True}}) == 0


async def test_json_that_is_too_large_as_bson_is_stored_as_bytes(storage: MongoStorage) -> None:
    value = b"[" + b",".join([b"1"] * 3_000_000) + b"]"  # 6 MB of JSON are 40 MB of BSON
    outcome = await commit(storage, Change("chat", Action.PUT, value))
    assert isinstance(outcome, Committed)
    assert await value_of(storage, "chat") == value


async def test_keys_of_any_kind(storage: MongoStorage, documents: Collection[dict[str, Any]]) -> None:
    keys = ["a.b", "$set", "a\0b", "\0", "-1001000000006", "🍕" * 250_000, "x" * 2**20]
    for number, key in enumerate(keys):
        await put(storage, key, b"%d" % number)
    assert [await value_of(storage, key) for key in keys] == [b"%d" % number for number in range(len(keys))]
    assert sorted(await scan_all_keys(storage, limit=2)) == sorted(keys)
    assert await scan_all_keys(storage, prefix="a\0") == ["a\0b"]
    assert documents.count_documents({}) == len(keys)


async def test_a_document_edited_by_hand(storage: MongoStorage, documents: Collection[dict[str, Any]]) -> None:
    await put(storage, "fits", b'{"count":1}')
    await put(storage, "odd", b'{"count":1}')
    documents.update_one({"_id": "fits"}, {"$set": {"value.count": 5}, "$unset": {"version": ""}})
    documents.update_one({"_id": "odd"}, {"$set": {"value.count": ObjectId()}})
    documents.insert_one({"_id": "new", "value": {"count": 7}})
    async with SessionManager(dict[str, int], storage=storage) as sessions:
        for key, count in (("fits", 5), ("new", 7)):
            async with sessions.open(key) as session:
                assert session.data == {"count": count}
                session.data["count"] += 1
            assert await sessions.get(key) == {"count": count + 1}
        with pytest.raises(StorageError, match="session 'odd': its document in MongoDB has a value that JSON cannot"):
            await sessions.get("odd")
        with pytest.raises(StorageError, match="'odd'"):
            async with sessions.open("odd"):
                pass
        assert sorted([key async for key, _ in sessions.entries()]) == ["fits", "new"]
    (told,) = await storage.list_unreadable(10)
    assert told.name == "odd"
    odd = documents.find_one({"_id": "odd"})
    assert odd is not None
    assert isinstance(odd["value"]["count"], ObjectId), "nothing is written over what cannot be read"


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("expires_at", "tomorrow", "has an expires_at that is not a date"),
        ("token", "a word", "a field of its document has a wrong type"),
        ("commits", 5, "a field of its document has a wrong type"),
        ("lock", "a word", None),
        ("lock", {"token": "a word"}, None),
        ("version", "a word", None),
        ("version", None, None),
    ],
)
async def test_a_document_with_an_odd_field(
    storage: MongoStorage,
    documents: Collection[dict[str, Any]],
    field: str,
    value: object,
    message: str | None,
    size: int,
) -> None:
    """It concerns its own session only, and says what is wrong where nothing can be done about it."""
    async with SessionManager(int, storage=storage) as sessions:
        keys = ["odd", *(f"chat-{n}" for n in range(size - 1))]
        for key in keys:
            await sessions.put(key, 1)
        documents.update_one({"_id": "odd"}, {"$set": {field: value}})
        odd, *others = await asyncio.gather(
            *(sessions.update(key, lambda count: count + 1) for key in keys), return_exceptions=True
        )
        assert others == [2] * (size - 1)
        if message is None:
            assert odd == 2
        else:
            assert isinstance(odd, StorageError)
            assert str(odd).startswith("session 'odd': ")
            assert message in str(odd)


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), b"bytes", float("nan"), Decimal128("1")])
async def test_values_that_are_not_json_are_refused(
    storage: MongoStorage, documents: Collection[dict[str, Any]], value: object
) -> None:
    documents.insert_one({"_id": "chat", "value": {"when": [value]}})
    before = documents.find_one({"_id": "chat"})
    async with SessionManager(dict[str, Any], storage=storage) as sessions:
        with pytest.raises(StorageError, match="session 'chat': its document in MongoDB has a value that JSON cannot"):
            await sessions.update("chat", lambda found: {**found, "count": 1})
    after = documents.find_one({"_id": "chat"})
    assert after is not None
    assert before is not None
    assert repr(after["value"]) == repr(before["value"])


async def test_a_change_by_hand_during_an_update_conflicts(
    storage: MongoStorage, documents: Collection[dict[str, Any]]
) -> None:
    async with SessionManager(int, storage=storage) as sessions:
        await sessions.put("chat", 1)
        with pytest.raises(SessionConflictError):
            async with sessions.open("chat") as session:
                documents.update_one({"_id": "chat"}, {"$set": {"value": 10}, "$unset": {"version": ""}})
                session.data += 1
        assert await sessions.get("chat") == 10


@pytest.mark.parametrize(
    "options",
    [{"document_class": RawBSONDocument}, {"datetime_conversion": DatetimeConversion.DATETIME_MS}, {"tz_aware": True}],
    ids=lambda options: next(iter(options)),
)
async def test_a_client_that_decodes_otherwise(
    mongo_server: MongoServer, collection: str, options: dict[str, Any]
) -> None:
    async with (
        AsyncMongoClient[Any](mongo_server.url, **options) as client,
        MongoStorage(client=client, database="bot", collection=collection) as storage,
        SessionManager(dict[str, list[int]], storage=storage, ttl=60) as sessions,
    ):
        for _ in range(2):
            async with sessions.open("chat") as session:
                session.data.setdefault("numbers", []).append(1)
        await lock(storage, "chat")
        assert await sessions.get("chat") == {"numbers": [1, 1]}
        assert [held.key for held in await storage.list_locks("", 10)] == ["chat"]


@pytest.mark.parametrize("seconds", [1e7, 1e300, float("inf")])
async def test_retry_for_may_be_very_long(mongo_server: MongoServer, collection: str, seconds: float) -> None:
    async with MongoStorage(mongo_server.url, collection=collection, retry_for=seconds) as storage:
        await put(storage, "chat", b"1")


async def test_a_waiter_is_woken(storage: MongoStorage, other: MongoStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_locks, "_LONGEST_SLEEP", 3600.0)
    async with asyncio.timeout(60):
        for key in ("first", "second", "third"):
            held = await lock(storage, key)
            wanted = request(key)
            assert await try_lock(other, wanted) is None
            assert other._locks is not None
            assert other._locks.wakeups is not None
            await other._locks.wakeups._ready.wait()
            assert await try_lock(other, wanted) is None
            waiting = asyncio.create_task(other.wait_unlocked(wanted, 1))
            await asyncio.sleep(0)
            await unlock(storage, held.lease)
            await waiting
            assert await try_lock(other, wanted) is not None


async def test_a_waiter_tries_again_when_the_lease_ends(
    storage: MongoStorage, other: MongoStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "_LONGEST_SLEEP", 3600.0)
    async with asyncio.timeout(60):
        await lock(storage, "held by one that dies", 0.6)
        wanted = request("held by one that dies")
        for attempt in count():
            if await try_lock(other, wanted) is not None:
                break
            assert other._locks is not None
            assert other._locks.wakeups is not None
            await other._locks.wakeups._ready.wait()
            await other.wait_unlocked(wanted, attempt)


LOCKED = {"locked once", "one of two", "the other"}


async def test_unneeded_documents_are_removed_by_the_server(
    storage: MongoStorage, documents: Collection[dict[str, Any]], mongo_server: MongoServer
) -> None:
    await unlock(storage, (await lock(storage, "locked once")).lease)
    for locked in await storage.lock_many([request("one of two"), request("the other")]):
        assert isinstance(locked, Locked)
        await unlock(storage, locked.lease)
    async with MongoStorage(mongo_server.url, collection=documents.name):
        pass  # it knows these documents as its own
    await put(storage, "ends", b"1", ttl=60)
    await put(storage, "stays", b"1")
    await put(storage, "gone", b"1")
    await delete(storage, "gone")
    indexes = documents.index_information()
    assert indexes["chatsession_expires_at"]["expireAfterSeconds"] == 3600
    assert indexes["chatsession_touched_at"]["partialFilterExpression"] == {"idle": True}
    removed = {"$or": [{"expires_at": {"$type": "date"}}, {"idle": True, "touched_at": {"$type": "date"}}]}
    assert {document["_id"] for document in documents.find(removed)} == LOCKED | {"ends", "gone"}
    await put(storage, "ends", b"1")
    await put(storage, "gone", b"1")
    assert {document["_id"] for document in documents.find(removed)} == LOCKED


async def test_grammys_documents_are_read_and_written_as_they_lie(mongo_server: MongoServer, collection: str) -> None:
    with mongo_server.client() as client:
        documents = client.bot[collection]
        documents.insert_one({"key": "42", "value": {"count": 1}})
        url = f"{mongo_server.url}&layout=grammy&collection={collection}"
        async with SessionManager(dict[str, int], storage=url) as sessions:
            async with sessions.open("42") as session:
                session.data["count"] += 1
            found = documents.find_one({"key": "42"})
            assert found is not None
            assert found["value"] == {"count": 2}
            with pytest.raises(SessionConflictError):
                async with sessions.open("42") as session:
                    documents.update_one({"key": "42"}, {"$set": {"key": "42", "value": {"count": 9}}}, upsert=True)
                    session.data["count"] += 1
            assert await sessions.get("42") == {"count": 9}


class TestWhatIsRefused:
    async def test_wrong_credentials(self, standalone: MongoServer) -> None:
        url = standalone.url.replace("p%40ss%3Aw%2Frd", "s3cret-pw")
        with pytest.raises(StorageError, match="the name or the password is wrong") as caught:
            async with MongoStorage(url):
                pass
        assert "s3cret-pw" not in "".join(traceback.format_exception(caught.value))

    async def test_no_server(self) -> None:
        port = free_ports(1)[0]
        with pytest.raises(StorageUnavailableError, match="cannot be reached, or no server of it is the primary"):
            async with MongoStorage(f"mongodb://u:s3cret@127.0.0.1:{port}/bot", retry_for=0.5):
                pass

    async def test_a_collection_with_other_documents(
        self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]
    ) -> None:
        documents.insert_one({"name": "an invoice"})
        with pytest.raises(StorageError, match="has documents that are not sessions; name another collection"):
            async with MongoStorage(mongo_server.url, collection=documents.name):
                pass
        assert list(documents.index_information()) == ["_id_"]

    async def test_documents_of_another_kind_with_text_ids(
        self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]
    ) -> None:
        documents.insert_one({"_id": "fsm:1:2", "state": "s", "data": {}})
        with pytest.raises(StorageError, match="has documents that are not sessions; name another collection"):
            async with MongoStorage(mongo_server.url, collection=documents.name):
                pass

    async def test_a_collection_with_a_collation(
        self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]
    ) -> None:
        documents.database.create_collection(documents.name, collation={"locale": "en", "strength": 2})
        with pytest.raises(StorageError, match="with a collation, by which two keys may be the same"):
            async with MongoStorage(mongo_server.url, collection=documents.name):
                pass

    @pytest.mark.parametrize(
        ("layout", "field", "name", "options"),
        [
            ("grammy", "key", "chatsession_key", {}),
            ("chatsession", "expires_at", "chatsession_expires_at", {}),
            ("chatsession", "expires_at", "mine", {"expireAfterSeconds": 5}),
        ],
    )
    async def test_an_index_that_does_something_else(
        self,
        mongo_server: MongoServer,
        documents: Collection[dict[str, Any]],
        layout: Any,
        field: str,
        name: str,
        options: Any,
    ) -> None:
        documents.create_index(field, name=name, **options)
        with pytest.raises(StorageError, match=f"the index {name} of .* is not as sessions need it; drop it"):
            async with MongoStorage(mongo_server.url, collection=documents.name, layout=layout):
                pass

    async def test_an_index_of_the_same_kind_may_have_any_name(
        self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]
    ) -> None:
        documents.create_index("key", unique=True)
        async with MongoStorage(mongo_server.url, collection=documents.name, layout="grammy"):
            pass
        assert "chatsession_key" not in documents.index_information()

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("mongodb://u:s3cret@127.0.0.1:99999/bot", "pymongo refused the settings"),
            ("mongodb://u:s3cret@127.0.0.1:abc/bot", "pymongo refused the settings"),
            ("mongodb://u:s3cret@x@127.0.0.1/bot", "write %40 for @"),
            ("mongodb://u:s3cret@127.0.0.1/b.o", "the names of the database and the collection"),
            ("mongodb://u:s3cret@127.0.0.1/bot?w=0&journal=false", "leave out w=0"),
            ("mongodb+srv://u:s3cret@nowhere.invalid/bot", "cannot be found by DNS"),
        ],
    )
    async def test_a_wrong_url_that_only_opening_reveals(self, url: str, message: str) -> None:
        with pytest.raises(StorageError, match=message) as caught:
            async with open_storage(url):
                pass
        assert "s3cret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)

    def test_a_file_that_cannot_be_read(self) -> None:
        with pytest.raises(StorageError, match="tlsCertificateKeyFile in the URL"):
            open_storage("mongodb://host/bot?tls=true&tlsCertificateKeyFile=/nowhere")

    async def test_grammys_collection_without_its_layout(
        self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]
    ) -> None:
        documents.insert_one({"key": "42", "value": {}})
        with pytest.raises(StorageError, match="add layout=grammy"):
            async with MongoStorage(mongo_server.url, collection=documents.name):
                pass

    async def test_two_documents_of_one_key(
        self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]
    ) -> None:
        documents.insert_many([{"key": "42", "value": 1}, {"key": "42", "value": 2}])
        with pytest.raises(StorageError, match="two documents of the collection have the same key"):
            async with MongoStorage(mongo_server.url, collection=documents.name, layout="grammy"):
                pass

    async def test_a_missing_index(self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]) -> None:
        with pytest.raises(StorageError, match="lacks the index chatsession_expires_at"):
            async with MongoStorage(mongo_server.url, collection=documents.name, create=False):
                pass
        async with MongoStorage(mongo_server.url, collection=documents.name):
            pass
        async with MongoStorage(mongo_server.url, collection=documents.name, create=False):
            pass

    async def test_a_capped_collection(self, mongo_server: MongoServer, documents: Collection[dict[str, Any]]) -> None:
        documents.database.create_collection(documents.name, capped=True, size=10_000)
        with pytest.raises(StorageError, match="is a capped collection, where sessions cannot be stored"):
            async with MongoStorage(mongo_server.url, collection=documents.name):
                pass

    async def test_a_missing_right(self, standalone: MongoServer, collection: str) -> None:
        with standalone.client() as client:
            client.admin.command("createUser", "reader", pwd="s3cret", roles=[{"role": "read", "db": "bot"}])
        url = f"mongodb://reader:s3cret@{standalone.address}/bot?authSource=admin"
        with pytest.raises(StorageError, match="lacks a right on the collection"):
            async with MongoStorage(url, collection=collection):
                pass

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("mongodb://host", "names no database"),
            ("mongodb://host/", "names no database"),
            ("mongodb://host/bot?nonsense=1", "unknown or given twice: nonsense"),
            ("mongodb://host/bot?authSource=admin&w=1&w=2", "given twice: w; known are"),
            ("mongodb://host/bot?tls=perhaps", "tls in the URL has a value"),
            ("mongodb://host/bot?datetime_conversion=x", "datetime_conversion in the URL has a value"),
            ("mongodb://host/bot?layout=telegraf", "the layout of a collection is one of chatsession, grammy"),
        ],
    )
    def test_a_url_that_is_wrong(self, url: str, message: str) -> None:
        with pytest.raises(StorageError, match=message):
            open_storage(url)

    def test_a_time_to_live_in_grammys_documents(self) -> None:
        with pytest.raises(StorageError, match="sessions in grammY's documents cannot expire"):
            open_storage("mongodb://host/bot?layout=grammy&time_to_live=60")

    def test_neither_url_nor_client(self) -> None:
        with pytest.raises(StorageError, match="need a URL or a client"):
            MongoStorage()

    def test_a_client_of_another_kind(self, standalone: MongoServer) -> None:
        with standalone.client() as client, pytest.raises(StorageError, match="AsyncMongoClient, not a MongoClient"):
            MongoStorage(client=client, database="bot")  # type: ignore[arg-type]  # that is what it refuses

    async def test_a_server_older_than_6(self, mongo_server: MongoServer, collection: str) -> None:
        version = mongo_server.command({"buildInfo": 1})["versionArray"]
        async with MongoProxy(mongo_server.port) as proxy:
            proxy.instead = _encoded(version), _encoded([5, *version[1:]])
            with pytest.raises(StorageError, match=r"sessions need 6\.0 or newer; upgrade the server"):
                async with MongoStorage(proxy.url, collection=collection):
                    pass

    async def test_w_on_a_server_without_a_replica_set(self, standalone: MongoServer, collection: str) -> None:
        with pytest.raises(StorageError, match="w asks for several servers"):
            async with MongoStorage(f"{standalone.url}&w=2", collection=collection):
                pass


def _encoded(version: list[int]) -> bytes:
    return encode({"versionArray": version})[4:-1]
