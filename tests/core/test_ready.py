"""What was decoded to check a write is given to the next update, once, and only if those bytes are what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from core_aids import put

from chatsession import MemoryStorage, SessionManager
from chatsession.errors import SessionDecodeError
from chatsession.serialization.decoded_cache import DecodedCache


@dataclass
class Cart:
    count: int = 0
    items: list[str] = field(default_factory=list)


async def buy(carts: SessionManager[Cart], item: str = "tea") -> Cart:
    async with carts.open("chat") as session:
        session.data.count += 1
        session.data.items.append(item)
        return session.data


async def test_no_two_updates_get_the_same_object() -> None:
    carts = SessionManager(Cart, storage=MemoryStorage())
    seen = [await buy(carts) for _ in range(4)]
    assert [cart.count for cart in seen] == [1, 2, 3, 4]
    assert len({id(cart.items) for cart in seen}) == 4


async def test_parallel_readers_get_objects_of_their_own() -> None:
    carts = SessionManager(Cart, storage=MemoryStorage(), concurrency="optimistic")
    await buy(carts)
    async with carts.open("chat") as one, carts.open("chat") as other:
        assert one.data == other.data
        assert one.data.items is not other.data.items


async def test_a_change_that_failed_is_seen_by_nobody() -> None:
    carts = SessionManager(Cart, storage=MemoryStorage())
    await buy(carts)
    with pytest.raises(ZeroDivisionError):
        async with carts.open("chat") as session:
            session.data.items.append("lost")
            await session.save()
            session.data.items.append("never")
            raise ZeroDivisionError
    assert await carts.get("chat") == Cart(1, ["tea", "lost"])


async def test_what_others_have_stored_meanwhile_is_decoded() -> None:
    storage = MemoryStorage()
    carts = SessionManager(Cart, storage=storage)
    await buy(carts)
    await put(storage, "chat", b'{"count":7,"items":[],"colour":"red"}')
    assert (await buy(carts)).count == 8
    await put(storage, "chat", b'{"count":"x"}')
    with pytest.raises(SessionDecodeError):
        await buy(carts)


async def test_fields_of_others_stay_over_many_updates() -> None:
    storage = MemoryStorage()
    carts = SessionManager(Cart, storage=storage)
    await put(storage, "chat", b'{"count":0,"colour":"red"}')
    for _ in range(3):
        await buy(carts)
    (record,) = await storage.read_many(["chat"])
    assert record is not None
    assert msgspec.json.decode(record.value) == {"count": 3, "items": ["tea"] * 3, "colour": "red"}


async def test_data_that_looks_like_an_envelope_comes_back_as_it_was() -> None:
    anything: SessionManager[Any] = SessionManager(dict[str, Any], storage=MemoryStorage())
    for value in ({"__d": 1}, {"__d": 2, "v": 3}, {"a": "__d"}):
        async with anything.open("chat") as session:
            session.data = value
        async with anything.open("chat") as session:
            assert session.data == value


def test_it_stays_small() -> None:
    ready: DecodedCache[int] = DecodedCache()
    for number in range(10_000):
        ready.put(str(number), b"%d" % number, number)
    assert len(ready) == 2_000
    assert ready.take("0", b"0") is None
    assert ready.take("9999", b"9998") is None
    assert ready.take("9999", b"9999") == 9999
    assert ready.take("9999", b"9999") is None
    assert ready.is_own("9999", b"9999")


def test_its_budget_in_bytes_holds_for_large_values() -> None:
    ready: DecodedCache[int] = DecodedCache()
    data = b"1" * 10_000
    for number in range(100_000):
        ready.put(str(number), data, number)
        ready.put("busy", data[: number % 10_000], number)
    assert 8 * 1024 * 1024 - 20_000 < sum(len(kept) for kept, _ in ready._values.values()) <= 8 * 1024 * 1024
    assert ready.take("99999", data) == 99_999
    assert ready.take("99000", data) is None
    for number in range(20):
        ready.put(f"large {number}", b"1" * 1024 * 1024, number)
    assert len(ready) == 8
    assert ready.take("large 19", b"1" * 1024 * 1024) == 19
    ready.put("all", b"1" * 8 * 1024 * 1024, 1)
    assert ready.take("all", b"1" * 8 * 1024 * 1024) == 1
    ready.put("all", b"1" * (8 * 1024 * 1024 + 1), 1)
    assert len(ready) == 0


async def test_the_decoded_values_of_many_large_chats_take_no_more_room() -> None:
    storage = MemoryStorage()
    carts = SessionManager(Cart, storage=storage)
    for number in range(3_000):
        async with carts.open(number) as session:
            session.data.items = ["tea" * 30] * 100
    decoded = carts.runtime.serializer._decoded
    assert sum(len(data) for data, _ in decoded._values.values()) <= 8 * 1024 * 1024
    assert len(decoded) < 1_000
