"""A user's own `StorageAdapter`: three methods, sync or async, values not bytes; rules 4, 5, 12, 13 and 21a with it."""

# ruff: noqa: SIM118 - small blocks read best where they stand

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from core_aids import (
    Access,
    Context,
    LazyContext,
    Pizza,
    Way,
    assert_nothing_is_held,
    by_open,
    count_one,
    look,
    nothing,
    steps,
)

from chatsession import (
    SessionClosedError,
    SessionConflictError,
    SessionDecodeError,
    SessionError,
    SessionManager,
    StorageError,
    multi_session,
)
from chatsession.storages.adapter import adapted


class Shelf:
    """Sync, and careless: it hands out and keeps live objects."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reads: list[str] = []
        self.writes: list[str] = []
        self.deletes: list[str] = []

    def read(self, key: str) -> Any:
        self.reads.append(key)
        return self.values.get(key)

    def write(self, key: str, value: Any) -> None:
        self.writes.append(key)
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.deletes.append(key)
        self.values.pop(key, None)

    def read_all_keys(self) -> Iterator[str]:
        yield from list(self.values)

    def read_all_entries(self) -> list[tuple[str, Any]]:
        return list(self.values.items())


class AsyncShelf(Shelf):
    """The same, async, and slow enough that others get their turn in between."""

    async def read(self, key: str) -> Any:
        await steps(2)
        return super().read(key)

    async def write(self, key: str, value: Any) -> None:
        await steps(2)
        super().write(key, value)
        await steps(2)

    async def delete(self, key: str) -> None:
        await steps(2)
        super().delete(key)

    async def read_all_keys(self) -> AsyncIterator[str]:  # type: ignore[override]
        for key in list(self.values):
            await asyncio.sleep(0)
            yield key

    async def read_all_entries(self) -> list[tuple[str, Any]]:  # type: ignore[override]
        await asyncio.sleep(0)
        return list(self.values.items())


@pytest.fixture(params=[Shelf, AsyncShelf])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    shelf = request.param()
    yield shelf
    await assert_nothing_is_held(adapted(shelf))


async def test_it_reads_writes_and_deletes(way: Way, shelf: Any) -> None:
    pizzas = SessionManager(Pizza, storage=shelf)

    async def order(access: Access) -> None:
        (await access.get()).count += 1

    async def delete(access: Access) -> None:
        access.set(None)

    await way(pizzas, "chat", order)
    await way(pizzas, "chat", order)
    assert shelf.values == {"chat": Pizza(2)}
    assert await pizzas.get("chat") == Pizza(2)
    await way(pizzas, "chat", delete)
    assert (shelf.values, shelf.deletes) == ({}, ["chat"])


async def test_4_it_is_written_whenever_the_session_was_accessed_and_only_then(way: Way, shelf: Any) -> None:
    counters = SessionManager(int, storage=shelf)
    await way(counters, "chat", nothing)
    assert shelf.writes == []
    await way(counters, "chat", look)
    await way(counters, "chat", look)
    assert shelf.writes == ["chat", "chat"]


@pytest.mark.parametrize("fails", [ZeroDivisionError, asyncio.CancelledError])
async def test_5_a_failed_update_leaves_no_trace_in_live_objects(way: Way, shelf: Any, fails: type) -> None:
    shelf.values["chat"] = Pizza(1, ["olives"])
    pizzas = SessionManager(Pizza, storage=shelf)

    async def fail(access: Access) -> None:
        pizza = await access.get()
        pizza.count = 100
        pizza.toppings.append("ham")
        raise fails

    with pytest.raises(fails):
        await way(pizzas, "chat", fail)
    assert shelf.values == {"chat": Pizza(1, ["olives"])}


async def test_what_get_gave_and_what_was_stored_are_copies(shelf: Any) -> None:
    pizzas = SessionManager(Pizza, storage=shelf)
    async with pizzas.open("chat") as s:
        s.data.count = 1
        kept = s.data
    kept.count = 100
    found = await pizzas.get("chat")
    assert found == Pizza(1)
    found.count = 100
    assert await pizzas.get("chat") == Pizza(1)


async def test_plain_data_as_a_database_gives_it_becomes_the_type(way: Way, shelf: Any) -> None:
    shelf.values["chat"] = {"count": 3, "toppings": ["olives"]}

    async def handler(access: Access) -> None:
        assert await access.get() == Pizza(3, ["olives"])

    await way(SessionManager(Pizza, storage=shelf), "chat", handler)


async def test_10_what_does_not_fit_is_an_error_and_stays(way: Way, shelf: Any) -> None:
    shelf.values["chat"] = {"count": "SECRET"}
    with pytest.raises(SessionDecodeError, match="count") as caught:
        await way(SessionManager(Pizza, storage=shelf), "chat", look)
    assert "SECRET" not in str(caught.value)
    assert shelf.values == {"chat": {"count": "SECRET"}}


@pytest.mark.parametrize("value", [0, "", [], {}, False])
async def test_21a_what_is_empty_is_not_missing(way: Way, shelf: Any, value: Any) -> None:
    shelf.values["chat"] = value

    async def handler(access: Access) -> None:
        assert await access.get() == value

    await way(SessionManager(lambda: "fresh", type=type(value), storage=shelf), "chat", handler)


async def test_21a_a_read_that_fails_is_an_error_and_nothing_is_written_over_it(way: Way) -> None:
    class Failing(Shelf):
        def read(self, key: str) -> Any:
            raise OSError("the disk is gone")

    shelf = Failing()
    shelf.values["chat"] = 5
    counters = SessionManager(int, storage=shelf)
    for use in (lambda: way(counters, "chat", count_one), lambda: counters.get("chat")):
        with pytest.raises(StorageError, match="failed to read") as caught:
            await use()
        assert isinstance(caught.value.__cause__, OSError)
        assert "'chat'" in str(caught.value)
    assert (shelf.values, shelf.writes) == ({"chat": 5}, [])
    await assert_nothing_is_held(adapted(shelf))


@pytest.mark.parametrize("method", ["write", "delete"])
async def test_22_a_write_that_fails_is_an_error_of_the_update_and_holds_nothing(way: Way, method: str) -> None:
    class Failing(Shelf):
        def write(self, key: str, value: Any) -> None:
            raise OSError

        def delete(self, key: str) -> None:
            raise OSError

    shelf = Failing()
    shelf.values["chat"] = 5

    async def handler(access: Access) -> None:
        access.set(1 if method == "write" else None)

    counters = SessionManager(int, storage=shelf)
    for _ in range(2):
        with pytest.raises(StorageError, match=f"failed to {'put' if method == 'write' else 'delete'}"):
            await way(counters, "chat", handler)
    assert shelf.values == {"chat": 5}
    await assert_nothing_is_held(adapted(shelf))


async def test_12_no_update_is_lost(way: Way, shelf: Any) -> None:
    counters = SessionManager(int, storage=shelf)
    await asyncio.gather(*(way(counters, "chat", count_one) for _ in range(50)))
    assert shelf.values == {"chat": 50}


async def test_12_managers_of_one_adapter_wait_for_each_other(shelf: Any) -> None:
    managers = [SessionManager(int, storage=shelf) for _ in range(2)]
    await asyncio.gather(*(by_open(manager, "chat", count_one) for manager in managers * 20))
    assert shelf.values == {"chat": 40}


@pytest.mark.parametrize("stored", [{}, {"chat": 0}])
async def test_13_optimistic_of_several_at_once_one_wins(way: Way, shelf: Any, stored: dict[str, int]) -> None:
    shelf.values.update(stored)
    counters = SessionManager(int, storage=shelf, concurrency="optimistic")
    together = asyncio.Barrier(5)

    async def handler(access: Access) -> None:
        count = await access.get()
        await together.wait()
        access.set(count + 1)

    results = await asyncio.gather(*(way(counters, "chat", handler) for _ in range(5)), return_exceptions=True)
    lost = [result for result in results if isinstance(result, SessionConflictError)]
    assert (len(lost), shelf.values) == (4, {"chat": 1})


async def test_13_optimistic_update_loses_none(shelf: Any) -> None:
    counters = SessionManager(int, storage=shelf, concurrency="optimistic")
    await asyncio.gather(*(counters.update("chat", lambda count: count + 1) for _ in range(20)))
    assert shelf.values == {"chat": 20}


async def test_15_a_key_that_the_task_holds(way: Way, shelf: Any) -> None:
    counters = SessionManager(int, storage=shelf)

    async def outer(access: Access) -> None:
        await access.get()
        with pytest.raises(SessionError, match="open already"):
            await way(counters, "chat", look)

    await way(counters, "chat", outer)


async def test_15a_released_and_unchanged_is_no_error(way: Way, shelf: Any) -> None:
    async def streaming(access: Access) -> None:
        (await access.get()).toppings.append("olives")
        await access.release()
        assert (await access.get()).toppings == ["olives"]

    await way(SessionManager(Pizza, storage=shelf), "chat", streaming)
    assert shelf.writes == ["chat"]


async def test_15a_released_and_changed_is_told(way: Way, shelf: Any) -> None:
    async def streaming(access: Access) -> None:
        (await access.get()).toppings.append("olives")
        await access.release()
        (await access.get()).toppings.append("ham")

    with pytest.raises(SessionClosedError, match="released"):
        await way(SessionManager(Pizza, storage=shelf), "chat", streaming)
    assert shelf.values == {"chat": Pizza(0, ["olives"])}


async def test_objects_without_equality_can_be_kept_too(way: Way, shelf: Any) -> None:
    class Thing:
        def __init__(self) -> None:
            self.count = 0

    async def streaming(access: Access) -> None:
        (await access.get()).count += 1
        await access.release()
        await access.get()

    things = SessionManager(Thing, storage=shelf)
    await way(things, "chat", streaming)
    await way(things, "chat", streaming)
    assert shelf.values["chat"].count == 2


async def test_keys_and_entries_come_from_read_all(shelf: Any) -> None:
    counters = SessionManager(int, storage=shelf, prefix="a:")
    for key in ("x", "y"):
        await by_open(counters, key, count_one)
    shelf.values["b:z"] = 1
    assert sorted([key async for key in counters.keys()]) == ["x", "y"]
    assert sorted([entry async for entry in counters.entries()]) == [("x", 1), ("y", 1)]


async def test_without_read_all_listing_says_what_is_missing() -> None:
    class Small:
        def read(self, key: str) -> Any: ...
        def write(self, key: str, value: Any) -> None: ...
        def delete(self, key: str) -> None: ...

    counters = SessionManager(int, storage=Small())
    with pytest.raises(StorageError, match="read_all_keys"):
        _ = [key async for key in counters.keys()]
    with pytest.raises(StorageError, match="read_all_entries"):
        _ = [entry async for entry in counters.entries()]


@pytest.mark.parametrize("storage", [object(), {}, 5, dict])
def test_what_is_no_storage_is_refused_with_what_it_lacks(storage: Any) -> None:
    with pytest.raises(TypeError, match="lacks"):
        SessionManager(int, storage=storage)


def test_16_ttl_is_refused_because_the_adapter_has_no_expiry() -> None:
    with pytest.raises(SessionError, match="ttl"):
        SessionManager(int, storage=Shelf(), ttl=5)


@pytest.mark.parametrize("lazy", [False, True])
async def test_9_in_a_multi_session(shelf: Any, lazy: bool) -> None:
    middleware = multi_session(
        lazy=lazy,
        a=SessionManager(int, storage=shelf, prefix="a:"),
        b=SessionManager(Pizza, storage=shelf, prefix="b:"),
    )
    ctx = (LazyContext if lazy else Context)("chat")

    async def handler() -> None:
        ctx.session.a = 5
        ctx.session.b = Pizza(1)

    await middleware(ctx, handler)
    assert shelf.values == {"a:chat": 5, "b:chat": Pizza(1)}


async def test_a_cancellation_at_any_moment_leaves_no_half_write(way: Way, shelf: Any) -> None:
    counters = SessionManager(int, storage=shelf)
    for moment in range(25):
        task = asyncio.create_task(way(counters, "chat", count_one))
        await steps(moment)
        task.cancel()
        await asyncio.wait([task])
        await assert_nothing_is_held(adapted(shelf))
    await asyncio.wait_for(way(counters, "chat", count_one), 120)
