"""Rules 1 to 5: when sessions are read and written, and what everybody sees."""

# ruff: noqa: SIM118 - small blocks read best where they stand; `keys()` is no dict's

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from typing import Any

import pytest
from core_aids import (
    Access,
    Context,
    LazyContext,
    Pizza,
    Way,
    by_lazy,
    by_open,
    count_one,
    look,
    nothing,
    put,
    steps,
    value_of,
)

from chatsession import SessionError, SessionManager, lazy_session, multi_session, session
from chatsession.storages import Action


@pytest.fixture
def pizzas(storage: Any) -> SessionManager[Pizza]:
    return SessionManager(Pizza, storage=storage)


async def test_1_strict_loads_before_next(storage: Any, pizzas: SessionManager[Pizza]) -> None:
    read: list[str] = []

    async def handler() -> None:
        read.extend(storage.reads)

    await pizzas.middleware()(Context("chat"), handler)
    assert read == ["chat"]


async def test_1_strict_gives_a_plain_value(pizzas: SessionManager[Pizza]) -> None:
    ctx = Context("chat")

    async def handler() -> None:
        assert type(ctx.session) is Pizza
        ctx.session.count += 1
        assert ctx.session is ctx.session

    await pizzas.middleware()(ctx, handler)
    assert await pizzas.get("chat") == Pizza(1)


async def test_1_lazy_reads_nothing_until_awaited(storage: Any, pizzas: SessionManager[Pizza]) -> None:
    await by_lazy(pizzas, "chat", nothing)
    assert storage.reads == []
    await by_lazy(pizzas, "chat", look)
    assert storage.reads == ["chat"]


async def test_1_lazy_awaited_again_gives_the_very_same_object(storage: Any, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        first = await access.get()
        assert await access.get() is first
        assert (await asyncio.gather(access.get(), access.get())) == [first, first]

    await by_lazy(pizzas, "chat", handler)
    assert storage.reads == ["chat"]


async def test_1_lazy_awaited_by_two_at_once_reads_once(storage: Any, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        first, second = await asyncio.gather(access.get(), access.get())
        assert first is second

    await by_lazy(pizzas, "chat", handler)
    assert storage.reads == ["chat"]


async def test_1_lazy_a_load_that_was_cancelled_can_be_tried_again(pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        for count in range(6):
            loading = asyncio.create_task(access.get())
            await steps(count)
            loading.cancel()
            await asyncio.wait([loading])
        (await access.get()).count += 1

    await by_lazy(pizzas, "chat", handler)
    assert await pizzas.get("chat") == Pizza(1)


async def test_2_what_is_missing_is_what_initial_makes(way: Way, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        assert await access.get() == Pizza()

    await way(pizzas, "chat", handler)


async def test_2_without_initial_it_is_none(way: Way, storage: Any) -> None:
    async def handler(access: Access) -> None:
        assert await access.get() is None

    await way(SessionManager(type=Pizza, storage=storage), "chat", handler)
    await way(SessionManager(storage=storage), "chat", handler)
    assert storage.writes == []


async def test_2_initial_is_called_once_for_a_missing_key_and_not_for_others(way: Way, storage: Any) -> None:
    called = 0

    def initial() -> Pizza:
        nonlocal called
        called += 1
        return Pizza()

    async def look_twice(access: Access) -> None:
        await access.get()
        await access.get()

    sessions = SessionManager(initial, storage=storage)
    await way(sessions, "a", look_twice)
    assert called == 1
    await way(sessions, "a", look_twice)
    assert called == 1
    await way(sessions, "b", look_twice)
    assert called == 2


async def test_2_an_object_that_initial_shares_is_not_shared_between_keys(way: Way, storage: Any) -> None:
    shared = Pizza()
    sessions = SessionManager(lambda: shared, type=Pizza, storage=storage)

    async def order(access: Access) -> None:
        (await access.get()).toppings.append("olives")

    await way(sessions, "a", order)
    await way(sessions, "b", order)
    assert shared == Pizza()
    assert (await sessions.get("a"), await sessions.get("b")) == (Pizza(0, ["olives"]), Pizza(0, ["olives"]))


async def test_2_an_initial_that_raises_fails_the_update_and_writes_nothing(way: Way, storage: Any) -> None:
    def initial() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await way(SessionManager(initial, storage=storage), "chat", look)
    assert storage.writes == []


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: SessionManager(int), 1),
        (lambda: session(int), 1),
        (lambda: lazy_session(int), 1),
        (lambda: SessionManager(int, storage="memory:"), 0),
    ],
)
def test_2a_without_storage_one_line_says_that_sessions_are_lost(
    make: Any, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "chatsession"):
        make()
    assert [(record.name, "lost at restart" in record.message) for record in caplog.records] == [
        ("chatsession", True)
    ] * count


async def test_2a_without_storage_sessions_live_in_memory() -> None:
    async with SessionManager(int) as counters:
        await by_open(counters, "chat", count_one)
        assert await counters.get("chat") == 1


async def test_3_assignment_replaces(way: Way, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        access.set(Pizza(5))
        assert await access.get() == Pizza(5)
        (await access.get()).count += 1

    await way(pizzas, "chat", handler)
    await way(pizzas, "chat", handler)
    assert await pizzas.get("chat") == Pizza(6)


async def test_3_none_deletes(way: Way, storage: Any, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        access.set(None)
        assert await access.get() is None

    await put(storage, "chat", b'{"count":3,"toppings":[]}')
    await way(pizzas, "chat", handler)
    assert await value_of(storage, "chat") is None
    assert [key async for key in pizzas.keys()] == []


async def test_3_deleting_what_is_not_there_writes_nothing(way: Way, storage: Any, pizzas: Any) -> None:
    async def handler(access: Access) -> None:
        access.set(None)

    await way(pizzas, "chat", handler)
    assert storage.writes == []


async def test_3_the_last_assignment_counts(way: Way, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        access.set(None)
        access.set(Pizza(1))
        access.set(Pizza(2))

    await way(pizzas, "chat", handler)
    assert await pizzas.get("chat") == Pizza(2)


async def test_3_a_lazy_read_in_flight_is_discarded_by_an_assignment(storage: Any, pizzas: Any) -> None:
    await put(storage, "chat", b'{"count":3,"toppings":[]}')
    assigned = Pizza(100)
    for count in range(8):

        async def handler(access: Access, count: int = count) -> None:
            reading = asyncio.create_task(access.get())
            await steps(count)
            early = reading.done()
            access.set(assigned)
            assert await access.get() is assigned
            assert early or await reading is assigned

        await by_lazy(pizzas, "chat", handler)
        assert await pizzas.get("chat") == assigned


async def test_3_lazy_may_be_assigned_an_awaitable(pizzas: SessionManager[Pizza]) -> None:
    made: list[Pizza] = []

    async def make() -> Pizza:
        await asyncio.sleep(0)
        made.append(Pizza(7))
        return made[-1]

    async def assign(access: Access) -> None:
        access.set(make())

    async def assign_and_read(access: Access) -> None:
        access.set(make())
        assert await access.get() is await access.get()

    async def read_and_assign(access: Access) -> None:
        await access.get()
        access.set(make())

    for number, handler in enumerate((assign, assign_and_read, read_and_assign)):
        await by_lazy(pizzas, number, handler)
        assert await pizzas.get(number) == Pizza(7)
    assert len(made) == 3


async def test_3_lazy_an_awaitable_that_fails_fails_the_update(storage: Any, pizzas: SessionManager[Pizza]) -> None:
    async def fail() -> Pizza:
        raise ZeroDivisionError

    async def handler(access: Access) -> None:
        access.set(fail())

    with pytest.raises(ZeroDivisionError):
        await by_lazy(pizzas, "chat", handler)
    assert storage.writes == []


async def test_3_lazy_an_awaitable_of_a_failed_update_is_not_run(storage: Any, pizzas: SessionManager[Pizza]) -> None:
    async def make() -> Pizza:
        raise AssertionError("nobody asked")

    async def handler(access: Access) -> None:
        access.set(make())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await by_lazy(pizzas, "chat", handler)
    assert storage.writes == []


async def test_4_unchanged_is_not_written(way: Way, storage: Any, pizzas: SessionManager[Pizza]) -> None:
    await put(storage, "chat", b'{"count":3,"toppings":[]}')
    storage.writes.clear()
    await way(pizzas, "chat", look)

    async def to_and_fro(access: Access) -> None:
        (await access.get()).count += 1
        (await access.get()).count -= 1

    async def replace_by_equal(access: Access) -> None:
        access.set(Pizza(3))

    await way(pizzas, "chat", to_and_fro)
    await way(pizzas, "chat", replace_by_equal)
    assert storage.writes == []


async def test_4_changed_is_written_once(way: Way, storage: Any, pizzas: SessionManager[Pizza]) -> None:
    async def handler(access: Access) -> None:
        (await access.get()).toppings.append("olives")
        (await access.get()).toppings.append("capers")

    await way(pizzas, "chat", handler)
    assert storage.writes == [(Action.PUT, "chat")]


async def test_4_what_initial_made_is_stored_once_accessed(way: Way, storage: Any, pizzas: Any) -> None:
    await way(pizzas, "seen", nothing)
    assert storage.writes == []
    await way(pizzas, "accessed", look)
    assert storage.writes == [(Action.PUT, "accessed")]
    assert await pizzas.get("accessed") == Pizza()
    assert await pizzas.get("seen") is None


async def test_4_sets_that_did_not_change_are_not_written(way: Way, storage: Any) -> None:
    tags = SessionManager(set[str], storage=storage)

    async def rebuild(access: Access) -> None:
        access.set({f"{n}" for n in reversed(range(50))})

    await way(tags, "chat", rebuild)
    await way(tags, "chat", rebuild)
    assert storage.writes == [(Action.PUT, "chat")]
    for number, stored in enumerate((b'["a","b","c"]', b'["c","b","a"]', b'["b","a","c"]')):
        await put(storage, f"{number}", stored)
        storage.writes.clear()
        await way(tags, number, look)
        assert storage.writes == []


async def test_4_fields_that_this_version_does_not_know_are_kept(way: Way, storage: Any, pizzas: Any) -> None:
    await put(storage, "chat", b'{"count":3,"toppings":[],"newer":[1]}')
    storage.writes.clear()
    await way(pizzas, "chat", look)
    assert storage.writes == []

    async def handler(access: Access) -> None:
        (await access.get()).count += 1

    await way(pizzas, "chat", handler)
    assert await SessionManager(dict[str, Any], storage=storage).get("chat") == {
        "count": 4,
        "toppings": [],
        "newer": [1],
    }


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, KeyError])
async def test_5_if_next_raises_nothing_is_written(way: Way, error: type, storage: Any, pizzas: Any) -> None:
    await put(storage, "chat", b'{"count":3,"toppings":["olives"]}')
    storage.writes.clear()

    async def handler(access: Access) -> None:
        (await access.get()).count += 1
        (await access.get()).toppings.clear()
        raise error

    with pytest.raises(error):
        await way(pizzas, "chat", handler)
    assert storage.writes == []

    async def next_update(access: Access) -> None:
        assert await access.get() == Pizza(3, ["olives"])

    await way(pizzas, "chat", next_update)


async def test_5_a_deletion_of_a_failed_update_does_not_happen(way: Way, storage: Any, pizzas: Any) -> None:
    await put(storage, "chat", b'{"count":3,"toppings":[]}')

    async def handler(access: Access) -> None:
        access.set(None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await way(pizzas, "chat", handler)
    assert await pizzas.get("chat") == Pizza(3)


async def test_5_one_good_and_one_failing_handler_count_one(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)

    async def fail(access: Access) -> None:
        await count_one(access)
        raise ZeroDivisionError

    await way(counters, "chat", count_one)
    with pytest.raises(ZeroDivisionError):
        await way(counters, "chat", fail)
    assert await counters.get("chat") == 1


async def test_5_what_was_saved_before_the_failure_stays(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)

    async def handler(access: Access) -> None:
        access.set(1)
        await access.save()
        access.set(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await way(counters, "chat", handler)
    assert await counters.get("chat") == 1


async def test_save_commits_now_and_stays_open(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)

    async def handler(access: Access) -> None:
        access.set(5)
        await access.save()
        assert await counters.get("chat") == 5
        await access.save()
        access.set(6)

    await way(counters, "chat", handler)
    assert await counters.get("chat") == 6
    assert storage.writes == [(Action.PUT, "chat")] * 2


async def test_save_then_delete_then_save(way: Way, storage: Any) -> None:
    counters = SessionManager(int, storage=storage)

    async def handler(access: Access) -> None:
        access.set(5)
        await access.save()
        access.set(None)
        await access.save()
        assert await counters.get("chat") is None
        access.set(7)

    await way(counters, "chat", handler)
    assert await counters.get("chat") == 7


async def test_exists_tells_whether_it_was_stored(storage: Any) -> None:
    counters = SessionManager(int, storage=storage)
    async with counters.open("chat") as s:
        assert not s.exists
        s.data = 1
        await s.save()
        assert s.exists
        s.data = None
        await s.save()
        assert not s.exists


async def test_key_is_the_one_given_without_the_prefix(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, prefix="bot:")
    async with counters.open(42) as s:
        assert s.key == "42"
        s.data = 1
    assert await value_of(storage, "bot:42") == b"1"


def lock_calls_of(storage: Any) -> list[int]:
    """How many keys each call will lock from now on."""
    calls: list[int] = []
    original = storage.lock_many

    async def lock_many(requests: Any) -> Any:
        calls.append(len(requests))
        return await original(requests)

    storage.lock_many = lock_many
    return calls


async def test_9_multi_reads_in_one_round_trip_where_they_share_a_storage(sqlite: Any) -> None:
    calls = lock_calls_of(sqlite)
    a, b = (SessionManager(int, storage=sqlite, prefix=prefix) for prefix in ("a:", "b:"))
    middleware = multi_session(a=a, b=b)
    await middleware(Context("chat"), lambda: steps(1))
    assert calls == [2]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12")
async def test_9_eager_tasks_share_trips_as_others_do(sqlite: Any) -> None:
    calls = lock_calls_of(sqlite)
    sessions = SessionManager(int, storage=sqlite)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(vars(asyncio)["eager_task_factory"])
    try:
        await asyncio.gather(*[asyncio.ensure_future(sessions.update(n, lambda value: value + 1)) for n in range(5)])
    finally:
        loop.set_task_factory(None)
    assert calls == [5]


async def test_a_session_of_a_context_without_flavor_is_refused(storage: Any) -> None:
    class Plain:
        chat_id = 1

    with pytest.raises(SessionError, match="inherit from SessionFlavor"):
        await SessionManager(int, storage=storage).middleware()(Plain(), lambda: steps(1))


async def test_ctx_session_outside_of_its_middleware_says_what_to_do() -> None:
    with pytest.raises(SessionError, match=r"install session\(\)"):
        _ = Context().session
    with pytest.raises(SessionError, match=r"install session\(\)"):
        _ = LazyContext().session


async def test_an_update_leaves_no_cycle_to_collect() -> None:
    """A unit of work and its context that hold each other would double the cost of an update in memory."""
    middleware = session(Pizza, storage="memory:")

    async def update() -> None:
        ctx = Context()

        async def handler() -> None:
            ctx.session.count += 1

        await middleware(ctx, handler)

    await update()
    gc.collect()
    gc.disable()
    try:
        await update()
        assert gc.collect() == 0
    finally:
        gc.enable()
