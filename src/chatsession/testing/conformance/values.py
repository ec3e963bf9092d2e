"""What was put is what is read, whatever its size, and each answer stands in its place."""

from __future__ import annotations

import json
import random

import pytest

from chatsession.errors import SessionError
from chatsession.storages import Action, Change, Committed, Expect, Refused, Storage
from chatsession.testing.conformance.single import commit, delete, number, put, read, value_of
from chatsession.testing.conformance.suite import StorageSuite

JSON_TEXTS = [
    b"0",
    b"null",
    b'""',
    b"{}",
    b"[]",
    b'{"count":3,"name":"\xd0\x9c\xd0\xb0\xd1\x88\xd0\xb0","tags":["a","b"],"nested":{"a":null,"b":1.5}}',
    '{"emoji":"🍕🇫🇷","escaped":"\\u00e9\\n\\"","wide":"\U0010ffff"}'.encode(),
    b'{"__d":{"count":1},"v":2,"e":1700000000000}',
    b'{"big":12345678901234567890123456789,"small":0.000001}',
    b'"' + b"x" * 100_000 + b'"',
]
BINARIES = [
    b"",
    b"\0",
    b"\xff\xfe\xfd",
    b"\x80abc\0\0",
    b"not json",
    b'{"torn": ',
    bytes(range(256)) * 17,
    b"\n\r\n ",
    b'{"nul":"\\u0000"}',
    b'{"a":1,"a":2}',
]


class ValueTests(StorageSuite):
    """Round trips and batches."""

    async def test_a_key_that_was_never_stored_is_missing(self, storage: Storage) -> None:
        assert await storage.read_many(["never", "stored"]) == [None, None]

    async def test_calls_without_items_are_answered(self, storage: Storage) -> None:
        assert list(await storage.read_many([])) == []
        assert list(await storage.commit_many([])) == []
        assert list(await storage.lock_many([])) == []
        assert list(await storage.renew_many([], 1.0)) == []
        await storage.abandon_many([])

    @pytest.mark.parametrize("text", JSON_TEXTS, ids=lambda text: repr(text[:20]))
    async def test_json_is_read_as_it_was_stored(self, storage: Storage, other: Storage, text: bytes) -> None:
        await put(storage, "key", text)
        for each in (storage, other):
            stored = await value_of(each, "key")
            assert stored is not None
            assert stored == text if storage.verbatim else json.loads(stored) == json.loads(text)

    @pytest.mark.parametrize("value", BINARIES, ids=lambda value: repr(value[:20]))
    async def test_bytes_are_read_as_they_were_stored(self, storage: Storage, other: Storage, value: bytes) -> None:
        outcome = await commit(storage, Change("key", Action.PUT, value))
        if isinstance(outcome, SessionError) and not storage.verbatim:
            assert await read(other, "key") is None
            return
        assert isinstance(outcome, Committed), outcome
        stored = await value_of(other, "key")
        assert stored is not None, "a value of any bytes, even of none, is not a missing one"
        if not storage.verbatim and _is_json(value):
            assert json.loads(stored) == json.loads(value)
        else:
            assert stored == value

    @pytest.mark.parametrize(
        "size", [1, 1_000, 65_535, 65_536, 1_000_000, None], ids=lambda size: str(size or "largest")
    )
    async def test_values_of_every_size(self, storage: Storage, other: Storage, size: int | None) -> None:
        random_text = random.Random(size).randbytes((size or self.largest_value) // 2).hex().encode()
        value = b'"' + random_text[:-2] + b'"' if random_text else b"7"
        await put(storage, "key", value)
        assert await value_of(other, "key") == value
        await put(storage, "key", number(1))
        assert await value_of(other, "key") == b"1"

    async def test_a_value_is_replaced_and_deleted(self, storage: Storage, other: Storage) -> None:
        await put(storage, "key", b"1")
        await put(other, "key", b"2")
        assert await value_of(storage, "key") == b"2"
        await delete(storage, "key")
        assert await read(storage, "key") is None
        assert await read(other, "key") is None
        await delete(other, "key")  # deleting what is not there is no error

    async def test_results_stand_in_the_order_of_the_keys(self, storage: Storage) -> None:
        keys = [f"key-{n}" for n in range(100)]
        await storage.commit_many([Change(key, Action.PUT, number(n)) for n, key in enumerate(keys) if n % 3])
        order = list(enumerate(keys))
        random.Random(1).shuffle(order)
        found = await storage.read_many([key for _, key in order])
        values = [None if record is None else record.value for record in found if not isinstance(record, SessionError)]
        assert values == [number(n) if n % 3 else None for n, _ in order]

    async def test_a_full_batch_of_everything(self, storage: Storage, other: Storage) -> None:
        """500 changes in one call: puts, deletes, touches and keeps, a part of which conflicts."""
        keys = [f"chat:{n}" for n in range(500)]
        first = await storage.commit_many([Change(key, Action.PUT, number(1), None) for key in keys])
        versions = {
            key: outcome.version for key, outcome in zip(keys, first, strict=True) if type(outcome) is Committed
        }
        assert len(versions) == 500

        actions = [Action.PUT, Action.DELETE, Action.TOUCH, Action.KEEP]
        changes = [
            Change(key, actions[n % 4], number(n), versions[key] if n % 5 else None) for n, key in enumerate(keys)
        ]
        outcomes = await other.commit_many(changes)
        found = await storage.read_many(keys)

        for n, (change, outcome, record) in enumerate(zip(changes, outcomes, found, strict=True)):
            assert not isinstance(record, SessionError)
            if n % 5 == 0:  # it was there, which the change did not expect
                assert outcome is Refused.CONFLICT, change
                assert record is not None
                assert record.value == b"1"
                continue
            assert type(outcome) is Committed, change
            if change.action is Action.DELETE:
                assert record is None
                assert outcome.version is None
                continue
            assert record is not None
            assert record.value == (number(n) if change.action is Action.PUT else b"1")
            assert record.version == outcome.version

    async def test_a_batch_of_large_values(self, storage: Storage, other: Storage) -> None:
        values = {f"key-{n}": b'"' + bytes([97 + n]) * (self.largest_value // 8) + b'"' for n in range(8)}
        outcomes = await storage.commit_many([Change(key, Action.PUT, value) for key, value in values.items()])
        assert all(type(outcome) is Committed for outcome in outcomes)
        found = await other.read_many(list(values))
        assert [record and not isinstance(record, SessionError) and record.value for record in found] == [
            *values.values()
        ]

    async def test_touch_and_keep_of_a_missing_key_store_nothing(self, storage: Storage) -> None:
        for action in (Action.TOUCH, Action.KEEP):
            for expect in (Expect.ANYTHING, None):
                assert await commit(storage, Change("key", action, b"1", expect)) == Committed(None)
        assert await read(storage, "key") is None


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True
