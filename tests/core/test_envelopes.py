"""Rules 16 and 20: grammY's envelope is read as it lies, a user's own data is never taken for one, fixed expiry."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from core_aids import RecordingMemory
from hypothesis import given
from hypothesis import strategies as st

from chatsession import SessionManager, SessionMigrationError, StorageAdapter, enhance_storage
from chatsession.serialization.envelope import unwrap, wrap
from chatsession.storages import Action, Change, Record, Storage


async def put(storage: Storage, data: bytes, key: str = "chat") -> None:
    await storage.commit_many([Change(key, Action.PUT, data)])


async def raw(storage: Storage, key: str = "chat") -> Any:
    (record,) = await storage.read_many([key])
    assert isinstance(record, Record)
    return json.loads(record.value)


@pytest.mark.parametrize("stored", [b'{"count":3}', b'{"__d":{"count":3}}', b'{"v": 0, "__d": {"count": 3}}'])
async def test_bare_and_enveloped_data_is_the_same(storage: Storage, stored: bytes) -> None:
    await put(storage, stored)
    async with SessionManager(dict[str, int], storage=storage) as sessions:
        assert await sessions.get("chat") == {"count": 3}
        assert [entry async for entry in sessions.entries()] == [("chat", {"count": 3})]


async def test_an_unchanged_envelope_is_not_written() -> None:
    storage = RecordingMemory()
    await put(storage, b'{"__d":{"count":3},"e":99999999999999}')
    storage.writes.clear()
    async with SessionManager(dict[str, int], storage=storage) as sessions:
        await sessions.update("chat", lambda _: None)
    assert storage.writes == []


async def test_what_grammy_lets_expire_is_missing(storage: Storage) -> None:
    await put(storage, json.dumps({"__d": {"count": 3}, "e": int(time.time() * 1000) - 1}).encode())
    async with SessionManager(dict[str, int], storage=storage) as sessions:
        assert await sessions.get("chat") is None
        await sessions.update("chat", lambda data: {**data, "new": 1})
        assert await sessions.get("chat") == {"new": 1}


async def test_its_expiry_stays_without_ttl_and_ends_with_it(storage: Storage) -> None:
    await put(storage, b'{"__d":{"count":3},"e":99999999999999}')
    async with SessionManager(dict[str, int], storage=storage) as sessions:
        await sessions.update("chat", lambda _: {"count": 4})
    assert await raw(storage) == {"__d": {"count": 4}, "e": 99999999999999}
    async with SessionManager(dict[str, int], storage=storage, ttl=1000) as sessions:
        await sessions.update("chat", lambda _: None)
    assert await raw(storage) == {"count": 4}


@pytest.mark.parametrize(
    "data",
    [
        {"__d": 1},
        {"__d": {"__d": 2}, "v": 1},
        {"__d": None},
        {"__d": 1, "e": 1},
        {"__d": 1, "other": 2},
        {"v": 1, "e": 2},
    ],
)
async def test_a_users_own_data_of_that_look_comes_back(storage: Storage, data: Any) -> None:
    async with SessionManager(dict, storage=storage) as sessions:
        await sessions.update("chat", lambda _: data)
        assert await sessions.get("chat") == data
        await sessions.update("chat", lambda old: {**old, "more": 1})
        await sessions.update("chat", lambda _: data)
        assert await sessions.get("chat") == data
    async with SessionManager(dict, storage=storage, migrations={1: lambda old: {"old": old}}) as sessions:
        assert await sessions.get("chat") == {"old": data}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["__d", "v", "e", "u", "m", "f", "a"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(data=_JSON, version=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_is_wrapped_comes_out(data: Any, version: float | None) -> None:
    encoded = json.dumps(data).encode()
    for is_json in (True, False):
        found = unwrap(wrap(encoded, json=is_json, version=version, moved_to="x"), json=is_json)
        assert found is not None
        envelope, inner = found
        assert (None if inner is None else json.loads(inner)) == data or (inner == b"null" and data is None)
        assert envelope.moved_to == "x"


@given(st.binary(max_size=60))
def test_foreign_bytes_are_bare_data_or_a_clean_envelope(data: bytes) -> None:
    unwrap(data, json=True)
    unwrap(b"\x01h" + data, json=False)


async def test_a_fixed_time_to_live_counts_from_the_first_write(storage: Storage, clock: Any) -> None:
    async with SessionManager(int, storage=storage, ttl=100, expiry="fixed") as sessions:
        await sessions.update("chat", lambda _: 1)
        clock.advance(60)
        await sessions.update("chat", lambda count: count + 1)
        await sessions.update("chat", lambda _: None)
        clock.advance(39)
        assert await sessions.get("chat") == 2
        clock.advance(2)
        assert await sessions.get("chat") is None
        await sessions.update("chat", lambda count: count + 5)  # a new one, with a time of its own
        clock.advance(99)
        assert await sessions.get("chat") == 5


async def test_saving_halfway_keeps_a_fixed_time_too(storage: Storage, clock: Any) -> None:
    async with SessionManager(int, storage=storage, ttl=15, expiry="fixed") as sessions:
        async with sessions.open("chat") as s:
            s.data = 1
            await s.save()
            clock.advance(10)
            s.data = 2
        clock.advance(6)
        assert await sessions.get("chat") is None


class Shelf:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def read(self, key: str) -> Any:
        return self.values.get(key)

    async def write(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))  # as a database of JSON would

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class Listing(Shelf):
    def has(self, key: str) -> bool:
        return key in self.values

    def read_all_keys(self) -> list[str]:
        return list(self.values)

    async def read_all_values(self) -> list[Any]:
        return list(self.values.values())

    def read_all_entries(self) -> Any:
        return self.values.items()


@dataclass
class Pizza:
    count: int = 0


async def test_enhanced_storages_write_the_envelope() -> None:
    shelf = Shelf()
    shelf.values = {"1": {"count": 3}, "2": 7}
    enhanced: StorageAdapter[Any] = enhance_storage(
        shelf,
        milliseconds_to_live=60_000,
        migrations={1: lambda old: old if isinstance(old, dict) else {"count": old}},
    )
    async with SessionManager(Pizza, storage=enhanced) as sessions:
        assert (await sessions.get(1), await sessions.get(2)) == (Pizza(3), Pizza(7))
        assert shelf.values["1"]["e"] > time.time() * 1000  # from now on it ends

        await sessions.update(1, lambda pizza: Pizza(pizza.count + 1))
        assert shelf.values["1"] == {"__d": {"count": 4}, "v": 1, "e": shelf.values["1"]["e"]}
        shelf.values["1"]["e"] = 1
        assert await sessions.get(1) is None
        assert "1" not in shelf.values


async def test_enhanced_storages_offer_what_the_adapter_offers() -> None:
    assert not hasattr(enhance_storage(Shelf()), "read_all_keys")
    assert not hasattr(enhance_storage(Listing()), "something")
    listing = Listing()
    enhanced: Any = enhance_storage(listing, milliseconds_to_live=1000, migrations={1: lambda count: count + 1})
    listing.values = {"a": 1, "b": {"__d": 5, "v": 1}, "gone": {"__d": 6, "e": 1}}
    assert [value async for value in enhanced.read_all_values()] == [2, 5]
    assert await enhanced.has("a")
    assert not await enhanced.has("gone")
    async with SessionManager(int, storage=enhanced) as sessions:
        assert [entry async for entry in sessions.entries()] == [("a", 2), ("b", 5)]


async def test_the_option_works_on_adapters_too() -> None:
    shelf = Shelf()
    shelf.values = {"1": 3, "2": {"__d": 1, "v": 9}}
    async with SessionManager(Pizza, storage=shelf, migrations={2: lambda old: {"count": old}}) as sessions:
        assert await sessions.get(1) == Pizza(3)
        with pytest.raises(SessionMigrationError, match="newest migration known here is 2"):
            await sessions.get(2)
        await sessions.update(1, lambda _: None)
    assert shelf.values == {"1": {"__d": {"count": 3}, "v": 2}, "2": {"__d": 1, "v": 9}}


def test_enhance_storage_checks_what_it_is_given() -> None:
    with pytest.raises(ValueError, match="milliseconds_to_live must be positive"):
        enhance_storage(Shelf(), milliseconds_to_live=0)
    with pytest.raises(TypeError):
        enhance_storage(Shelf(), migrations={1: 5})  # type: ignore[dict-item]
