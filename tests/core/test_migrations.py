"""Rule 17: data of an older bot is brought up to date, step by step, and never harmed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from core_aids import RecordingMemory

from chatsession import SessionError, SessionManager, SessionMigrationError, SessionOptions
from chatsession.serialization.migrations import Migrations
from chatsession.storages import Action, Change, Record, Storage


@dataclass
class Order:
    items: list[str]
    paid: bool = False


def to_list(old: dict[str, Any]) -> dict[str, Any]:
    return {"items": [old["item"]]}


def add_paid(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "paid": False}


async def look(sessions: SessionManager[Any], key: str) -> None:
    async with sessions.open(key) as s:
        assert s.data is not None


async def put(storage: Storage, key: str, data: bytes) -> None:
    await storage.commit_many([Change(key, Action.PUT, data)])


async def stored(storage: Storage, key: str = "chat") -> Any:
    (record,) = await storage.read_many([key])
    assert isinstance(record, Record)
    return msgspec.json.decode(record.value)


def orders(storage: Storage, **options: Any) -> SessionManager[Order]:
    return SessionManager(
        lambda: Order([]), type=Order, storage=storage, migrations={1: to_list, 2: add_paid}, **options
    )


async def test_data_from_before_migrations_runs_through_all_of_them(storage: Storage) -> None:
    await put(storage, "chat", b'{"item":"pizza"}')
    async with orders(storage) as sessions:
        async with sessions.open("chat") as s:
            assert s.data == Order(["pizza"])
        assert await sessions.get("chat") == Order(["pizza"])
    assert await stored(storage) == {"__d": {"items": ["pizza"], "paid": False}, "v": 2}


async def test_only_the_steps_that_are_missing_are_run(storage: Storage) -> None:
    await put(storage, "chat", b'{"__d":{"items":["cake"]},"v":1}')
    async with orders(storage) as sessions, sessions.open("chat") as s:
        assert s.data == Order(["cake"])
        s.data.items.append("tea")
    assert await stored(storage) == {"__d": {"items": ["cake", "tea"], "paid": False}, "v": 2}


async def test_steps_are_in_the_order_of_numbers_and_may_have_gaps(storage: Storage) -> None:
    def noting(version: float) -> Any:
        return lambda seen: [*seen, version]

    await put(storage, "chat", b'{"__d":[],"v":1.5}')
    steps = {10.1: noting(10.1), -3: noting(-3), 2: noting(2), 10: noting(10), 9.9: noting(9.9)}
    async with SessionManager(list[float], storage=storage, migrations=steps) as sessions:
        assert await sessions.get("chat") == [2, 9.9, 10, 10.1]
        await sessions.update("chat", lambda _: None)
    assert (await stored(storage))["v"] == 10.1


async def test_a_new_session_has_the_latest_version_and_needs_no_step(storage: Storage) -> None:
    async with orders(storage) as sessions:
        async with sessions.open("chat") as s:
            s.data.items.append("pizza")
        assert await sessions.get("chat") == Order(["pizza"])
    assert (await stored(storage))["v"] == 2


async def test_what_is_up_to_date_is_not_written_again() -> None:
    storage = RecordingMemory()
    async with orders(storage) as sessions:
        await sessions.update("chat", lambda order: order.items.append("pizza"))
        storage.writes.clear()
        await look(sessions, "chat")
        assert storage.writes == []


async def test_a_session_that_is_not_looked_at_is_not_written() -> None:
    storage = RecordingMemory()
    await put(storage, "chat", b'{"item":"pizza"}')
    storage.writes.clear()
    async with orders(storage) as sessions, sessions.open("chat"):
        pass
    assert storage.writes == []


@pytest.mark.parametrize("on_decode_error", ["raise", "quarantine", "reset"])
async def test_a_step_that_raises_leaves_the_data(storage: Storage, on_decode_error: Any) -> None:
    await put(storage, "chat", b'{"something":"secret"}')
    await put(storage, "other", b'{"item":"pizza"}')
    async with orders(storage, on_decode_error=on_decode_error) as sessions:
        with pytest.raises(SessionMigrationError, match=r"^session 'chat': migration 1 raised KeyError") as caught:
            await look(sessions, "chat")
        assert "secret" not in str(caught.value)
        assert await sessions.get("other") == Order(["pizza"])
    assert await stored(storage) == {"something": "secret"}


@pytest.mark.parametrize("on_decode_error", ["raise", "quarantine", "reset"])
async def test_data_of_a_newer_version_is_left(storage: Storage, on_decode_error: Any) -> None:
    await put(storage, "chat", b'{"__d":{"new":1},"v":2.5}')
    async with orders(storage, on_decode_error=on_decode_error) as sessions:
        with pytest.raises(SessionMigrationError, match=r"version 2\.5, but the newest migration known here is 2"):
            await look(sessions, "chat")
    assert await stored(storage) == {"__d": {"new": 1}, "v": 2.5}


async def test_a_step_must_return_data(storage: Storage) -> None:
    await put(storage, "chat", b"{}")
    async with SessionManager(dict, storage=storage, migrations={1: lambda old: old.update(a=1)}) as sessions:
        with pytest.raises(SessionMigrationError, match="returned None; it must return the new data"):
            await sessions.get("chat")
    async with SessionManager(dict, storage=storage, migrations={1: lambda _: object()}) as sessions:
        with pytest.raises(SessionMigrationError, match="not JSON"):
            await sessions.get("chat")


@dataclass
class Old:
    name: str


@dataclass
class New:
    first: str
    last: str


def split(old: Old) -> New:
    first, _, last = old.name.partition(" ")
    return New(first, last)


def shout(new: New) -> New:
    return New(new.first.upper(), new.last)


async def test_typed_steps_get_and_give_values_of_their_types(storage: Storage) -> None:
    await put(storage, "chat", b'{"name":"Ann Smith"}')
    await put(storage, "bad", b'{"name":7}')
    async with SessionManager(type=New, storage=storage, migrations={1: split, 2: shout}) as sessions:
        assert await sessions.get("chat") == New("ANN", "Smith")
        with pytest.raises(SessionMigrationError, match=r"migration 1 takes data that does not fit: Expected `str`"):
            await sessions.get("bad")


def test_bad_migrations_are_refused_when_the_manager_is_made() -> None:
    async def later(old: object) -> object:
        return old

    for steps, error in (
        ({1: shout, 2: split}, TypeError),
        ({1: later}, TypeError),
        ({1: lambda: None}, TypeError),
        ({1: 7}, TypeError),
        ({}, ValueError),
        ({True: shout}, ValueError),
        ({float("nan"): shout}, ValueError),
    ):
        with pytest.raises(error):
            SessionManager(dict, storage="memory:", migrations=steps)  # type: ignore[arg-type]

    class Codec:
        encode = decode = staticmethod(lambda data: data)

    with pytest.raises(TypeError, match="migrations work on JSON"):
        SessionOptions(migrations={1: shout}, codec=Codec())


async def test_no_update_is_lost_while_data_is_migrated(storage: Storage) -> None:
    await put(storage, "chat", b"1")
    migrations = {1: lambda count: {"count": count}}
    async with SessionManager(dict[str, int], storage=storage, migrations=migrations) as sessions:

        async def one_more() -> None:
            async with sessions.open("chat") as s:
                count = s.data["count"]
                await asyncio.sleep(0)
                s.data["count"] = count + 1

        await asyncio.gather(*(one_more() for _ in range(50)))
        assert await sessions.get("chat") == {"count": 51}


async def test_rewrite_migrates_everything_and_tells_what_failed(storage: Storage) -> None:
    for n in range(450):
        await put(storage, f"chat:{n}", b'{"item":"pizza"}' if n % 100 else b'{"secret":1}')
    async with orders(storage) as sessions:
        dry = await sessions.rewrite(dry_run=True)
        assert (dry.seen, dry.rewritten, dry.failed) == (450, 445, 5)
        assert dry.reasons == {"SessionMigrationError": 5}
        assert {key for key, _ in dry.failures} == {f"chat:{n}" for n in range(0, 450, 100)}
        assert not any("secret" in why for _, why in dry.failures)
        assert await stored(storage, "chat:1") == {"item": "pizza"}

        cursors: list[str | None] = []
        done = await sessions.rewrite(progress=lambda report: cursors.append(report.cursor))
        assert (done.seen, done.rewritten, done.failed, done.cursor) == (450, 445, 5, None)
        assert len(cursors) > 1
        assert await stored(storage, "chat:1") == {"__d": {"items": ["pizza"], "paid": False}, "v": 2}
        assert await stored(storage, "chat:100") == {"secret": 1}
        assert (await sessions.rewrite()).rewritten == 0


async def test_rewrite_goes_on_where_it_stopped(storage: Storage) -> None:
    for n in range(450):
        await put(storage, f"chat:{n:03}", b'{"item":"pizza"}')
    async with orders(storage) as sessions:
        seen: list[Any] = []

        def stop(report: Any) -> None:
            seen.append(report.cursor)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            await sessions.rewrite(progress=stop)
        rest = await sessions.rewrite(resume=seen[0])
        assert 0 < rest.rewritten < 450
        assert (await sessions.rewrite(dry_run=True)).rewritten == 0


async def test_rewrite_does_not_touch_expiry(storage: Storage, clock: Any) -> None:
    await storage.commit_many([Change("chat", Action.PUT, b'{"item":"pizza"}', ttl=60)])
    async with orders(storage, ttl=1000) as sessions:
        assert (await sessions.rewrite()).rewritten == 1
        clock.advance(61)
        assert await sessions.get("chat") is None


async def test_without_migrations_the_version_stays(storage: Storage) -> None:
    await put(storage, "chat", b'{"__d":{"count":1},"v":7}')
    async with SessionManager(dict[str, int], storage=storage) as sessions:
        await sessions.update("chat", lambda data: {"count": data["count"] + 1})
    assert await stored(storage) == {"__d": {"count": 2}, "v": 7}


async def test_moving_back_to_a_custom_codec_is_an_error_not_a_loss(storage: Storage) -> None:
    class Reverse:
        def encode(self, value: str) -> bytes:
            return value.encode()[::-1]

        def decode(self, data: bytes) -> str:
            return data[::-1].decode()

    async with orders(storage) as sessions:
        await sessions.update("chat", lambda order: order.items.append("pizza"))
    async with SessionManager(str, storage=storage, codec=Reverse(), on_decode_error="raise") as sessions:
        with contextlib.suppress(SessionError):
            await sessions.get("chat")
    assert (await stored(storage))["v"] == 2


@pytest.mark.parametrize("steps", [[shout], (shout,), shout, {shout}])
def test_migrations_that_are_no_mapping_are_told_so(steps: Any) -> None:
    for make in (Migrations, lambda given: SessionManager(dict, storage="memory:", migrations=given)):
        with pytest.raises(TypeError, match=r"migrations takes a mapping from version to function"):
            make(steps)


async def test_typed_steps_pass_on_fields_that_their_types_do_not_know(storage: Storage) -> None:
    await put(storage, "chat", b'{"name":"Ann Smith","note":1.50,"last":"x"}')
    async with SessionManager(type=New, storage=storage, migrations={1: split, 2: shout}) as sessions:
        await sessions.update("chat", lambda new: New(new.first, "S"))
    assert await stored(storage) == {"__d": {"first": "ANN", "last": "S", "note": 1.5}, "v": 2}


@pytest.mark.parametrize(
    ("function", "dropped"),
    [
        (lambda old: {"items": [old["item"]] if "item" in old else []}, '$["items"]'),
        (lambda old: {**old, "paid": True}, None),
        (lambda old: {"list": old["items"], "item": 1}, None),
        (lambda old: {name: value for name, value in old.items() if name != "items"}, None),
        (lambda old: (old.pop("items"), old)[1], None),
        (lambda old: old, None),
        (lambda old: [], '$["items"]'),
        (lambda old: {"items": old.get("items"), "new": 1}, None),
    ],
)
def test_a_field_that_a_step_neither_reads_nor_passes_on_is_told(function: Any, dropped: str | None) -> None:
    assert Migrations({1: function}).would_drop("chat", b'{"items":["pizza","cola"]}', None) == dropped


def test_what_a_typed_step_would_drop_in_an_object_inside_is_told() -> None:
    def keep(old: Order) -> Order:
        return old

    assert Migrations({1: keep}).would_drop("chat", b'{"items":[],"new":{"x":1}}', None) is None


async def test_a_rewrite_drops_no_field(storage: Storage) -> None:
    def from_one_item(old: dict[str, Any]) -> dict[str, Any]:
        return {"items": [old["item"]] if "item" in old else []}

    await put(storage, "chat", b'{"items":["pizza","cola"]}')
    await put(storage, "other", b'{"item":"pizza"}')
    async with SessionManager(type=Order, storage=storage, migrations={1: from_one_item}) as sessions:
        for dry_run in (True, False):
            report = await sessions.rewrite(dry_run=dry_run)
            assert (report.seen, report.rewritten, report.failed) == (2, 1, 1)
            assert 'would drop `$["items"]`' in report.failures[0][1]
    assert await stored(storage) == {"items": ["pizza", "cola"]}
