"""The manager without asyncio does on every storage what the asynchronous one does."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import chatsession
from chatsession import (
    SessionClosedError,
    SessionDecodeError,
    SessionEncodeError,
    SessionError,
    SessionKeyError,
    SessionOptions,
)
from chatsession.sync import SessionManager


@dataclass
class Pizza:
    count: int = 0
    toppings: list[str] = field(default_factory=list[str])


class BurntError(Exception):
    """What blocks fail by."""


@pytest.fixture
def prefix() -> str:
    """Of this test, where tests share a server."""
    return f"{uuid.uuid4().hex}:"


@pytest.fixture
def pizzas(url: str, prefix: str) -> Iterator[SessionManager[Pizza]]:
    with SessionManager(Pizza, storage=url, prefix=prefix) as pizzas:
        yield pizzas


def test_what_a_block_makes_of_its_session_is_stored(pizzas: SessionManager[Pizza]) -> None:
    with pizzas.open(7) as s:
        assert (s.key, s.exists, s.data) == ("7", False, Pizza())
        s.data.count += 1
        s.data.toppings.append("salami")
    with pizzas.open("7") as s:
        assert (s.exists, s.data) == (True, Pizza(1, ["salami"]))
        s.data = Pizza(2)
    assert pizzas.get(7) == Pizza(2)
    with pizzas.open(7) as s:
        s.data = None
    assert pizzas.get(7) is None


def test_what_a_block_that_raises_makes_is_lost(pizzas: SessionManager[Pizza]) -> None:
    pizzas.put(7, Pizza(1))
    with pytest.raises(BurntError), pizzas.open(7) as s:
        s.data.count += 1
        raise BurntError
    assert pizzas.get(7) == Pizza(1)
    assert pizzas.update(7, lambda pizza: Pizza(pizza.count + 1)) == Pizza(2), "the key is not free again"


def test_save_stays_open_and_release_lets_others_in(pizzas: SessionManager[Pizza]) -> None:
    with pizzas.open(7) as s:
        s.data.count = 1
        s.save()
        assert s.exists
        assert pizzas.get(7) == Pizza(1)
        s.data.count = 2
        s.release()
        assert pizzas.update(7, lambda pizza: Pizza(pizza.count + 1)) == Pizza(3)
        assert s.data == Pizza(2)
        with pytest.raises(SessionClosedError, match="was released"):
            s.data = Pizza(4)
    assert pizzas.get(7) == Pizza(3)


def test_several_sessions_are_stored_together(pizzas: SessionManager[Pizza]) -> None:
    with pizzas.open_many(["b", "a"]) as opened:
        assert [s.key for s in opened] == ["b", "a"]
        for s in opened:
            s.data.count += 1
    assert sorted(pizzas.entries()) == [("a", Pizza(1)), ("b", Pizza(1))]
    with pytest.raises(BurntError), pizzas.open_many(["a", "b"]) as (a, _):
        a.data.count += 1
        raise BurntError
    with pytest.raises(SessionEncodeError), pizzas.open_many(["a", "b"]) as (a, b):
        a.data.count += 1
        b.data.count = "many"  # type: ignore[assignment]
    assert dict(pizzas.entries()) == {"a": Pizza(1), "b": Pizza(1)}


def test_all_sessions_are_listed_counted_and_deleted(pizzas: SessionManager[Pizza]) -> None:
    for number in range(250):
        pizzas.put(number, Pizza(number))
    assert pizzas.count() == 250
    assert sorted(map(int, pizzas.keys())) == list(range(250))
    assert sum(pizza.count for _, pizza in pizzas.entries()) == sum(range(250))
    assert [pizzas.delete(7), pizzas.delete(7)] == [True, False]
    assert next(pizzas.keys()), "an iteration may end early"
    assert pizzas.count() == 249


def test_a_session_moves_for_good(pizzas: SessionManager[Pizza]) -> None:
    pizzas.put("old", Pizza(1))
    pizzas.move("old", "new")
    with pizzas.open("old") as s:
        assert (s.key, s.data) == ("new", Pizza(1))
    assert list(pizzas.keys()) == ["new"]


def test_sessions_are_rewritten(url: str, prefix: str) -> None:
    with SessionManager(dict[str, int], storage=url, prefix=prefix) as before:
        before.put(7, {"count": 1})
    reports: list[int] = []
    with SessionManager(Pizza, storage=url, prefix=prefix, migrations={1: lambda data: {**data, "toppings": []}}) as s:
        assert s.rewrite(dry_run=True).rewritten == 1
        assert s.rewrite(progress=lambda report: reports.append(report.seen)).rewritten == 1
        assert s.rewrite().rewritten == 0
        assert s.get(7) == Pizza(1)
    assert reports[-1] == 1


def test_an_asynchronous_program_shares_the_sessions(url: str, prefix: str) -> None:
    """Each waits for the other, key by key."""
    updates = 40

    async def bot() -> None:
        async with chatsession.SessionManager(Pizza, storage=url, prefix=prefix) as sessions:
            for _ in range(updates):
                async with sessions.open(7) as s:
                    s.data.count += 1

    thread = threading.Thread(target=asyncio.run, args=(bot(),))
    with SessionManager(Pizza, storage=url, prefix=prefix) as pizzas:
        thread.start()
        for _ in range(updates):
            with pizzas.open(7) as s:
                s.data.count += 1
        thread.join()
        assert pizzas.get(7) == Pizza(2 * updates)


def test_no_update_of_eight_threads_is_lost(pizzas: SessionManager[Pizza]) -> None:
    def count_up() -> None:
        for number in range(25):
            with pizzas.open(number % 3) as s:
                s.data.count += 1

    in_threads(8, count_up)
    assert sum(pizza.count for _, pizza in pizzas.entries()) == 200


def in_threads(count: int, function: object) -> None:
    threads = [threading.Thread(target=function) for _ in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_15_a_key_that_the_thread_holds_is_an_error_at_once(pizzas: SessionManager[Pizza]) -> None:
    with pizzas.open(7) as s:
        s.data.count = 1
        for again in (
            lambda: pizzas.put(7, Pizza()),
            lambda: pizzas.update(7, lambda pizza: pizza),
            lambda: pizzas.delete(7),
            lambda: pizzas.open(7).__enter__(),
            lambda: pizzas.open_many([6, 7]).__enter__(),
        ):
            with pytest.raises(SessionError, match="has it open already"):
                again()
        assert pizzas.update(6, lambda pizza: Pizza(6)) == Pizza(6), "the other key of the group was not given back"
    assert pizzas.get(7) == Pizza(1)


def test_the_function_of_update_must_not_be_async(pizzas: SessionManager[Pizza]) -> None:
    async def bake(pizza: Pizza) -> Pizza:
        return Pizza(1)

    with pytest.raises(TypeError, match="must not be async"):
        pizzas.update(7, bake)  # type: ignore[arg-type]
    assert pizzas.get(7) is None


def test_a_conflict_lets_update_begin_anew(url: str, prefix: str) -> None:
    tries: list[int] = []
    with SessionManager(int, storage=url, prefix=prefix, concurrency="optimistic") as counters:

        def count_up(count: int) -> int:
            tries.append(count)
            if len(tries) == 1:
                counters.put(7, 5)
            return count + 1

        assert counters.update(7, count_up) == 6
    assert tries == [0, 5]


def test_wrong_keys_and_sessions_outside_of_their_block_are_refused(pizzas: SessionManager[Pizza]) -> None:
    with pytest.raises(SessionKeyError):
        pizzas.open("")
    with pytest.raises(SessionKeyError):
        pizzas.open(None)  # type: ignore[arg-type]
    s = pizzas.open(7)
    for use in (lambda: s.data, s.save, s.release):
        with pytest.raises(SessionClosedError, match="outside of its `with` block"):
            use()
    with s:
        with pytest.raises(SessionClosedError, match="open already"), s:
            pass
        s.data.count = 1
    for use in (lambda: s.data, s.save, s.__enter__):
        with pytest.raises(SessionClosedError):
            use()
    assert pizzas.get(7) == Pizza(1)


def test_a_manager_is_made_of_options(near: str) -> None:
    sessions = SessionManager.from_options(SessionOptions(initial=Pizza, storage=near, name="pizza"))
    with sessions:
        assert sessions.update(7, lambda pizza: Pizza(8)) == Pizza(8)
    assert sessions.options.name == "pizza"
    assert "'pizza'" in repr(sessions)


def test_entries_up_to_one_that_cannot_be_read_are_given(near: str) -> None:
    storage = chatsession.open_storage(near)
    with SessionManager(dict[str, str], storage=storage) as anything, SessionManager(Pizza, storage=storage) as pizzas:
        pizzas.put("a", Pizza(1))
        anything.put("b", {"count": "many"})
        entries = pizzas.entries()
        assert next(entries) == ("a", Pizza(1))
        with pytest.raises(SessionDecodeError):
            next(entries)
