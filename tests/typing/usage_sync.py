"""Code of users without asyncio, for type checkers alone: the types are those of the asynchronous manager."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, assert_type

from chatsession import MemoryStorage, RewriteReport, SessionOptions, Storage, open_storage, per_user
from chatsession.sync import Session, SessionManager


@dataclass
class Pizza:
    count: int = 0


class Slice(TypedDict, total=False):
    count: int


def fresh_pizza() -> Pizza:
    return Pizza(8)


of_class = SessionManager(Pizza)
of_function = SessionManager(fresh_pizza, storage="sqlite:///bot.db")
of_lambda = SessionManager(lambda: Pizza(8))
of_annotated_lambda: SessionManager[dict[str, int]] = SessionManager(lambda: {"Ann": 7})
of_partial = SessionManager(functools.partial(Pizza, 8))
of_type = SessionManager(type=Pizza)
of_both = SessionManager(lambda: Pizza(8), type=Pizza, ttl=timedelta(days=1))
of_typed_dict = SessionManager(Slice, get_session_key=per_user)
of_int = SessionManager(int, concurrency="optimistic", storage=MemoryStorage())
of_list = SessionManager(list[str], storage=open_storage("memory:"))
of_dict = SessionManager(dict[str, int], prefix="ages:", on_decode_error="quarantine")
of_anything = SessionManager()
of_options = SessionManager.from_options(SessionOptions(initial=Pizza))

assert_type(of_class, SessionManager[Pizza])
assert_type(of_function, SessionManager[Pizza])
assert_type(of_lambda, SessionManager[Pizza])
assert_type(of_annotated_lambda, SessionManager[dict[str, int]])
assert_type(of_partial, SessionManager[Pizza])
assert_type(of_type, SessionManager[Pizza | None])
assert_type(of_both, SessionManager[Pizza])
assert_type(of_typed_dict, SessionManager[Slice])
assert_type(of_int, SessionManager[int])
assert_type(of_list, SessionManager[list[str]])
assert_type(of_dict, SessionManager[dict[str, int]])
assert_type(of_anything, SessionManager[Any])
assert_type(of_options, SessionManager[Pizza])


def one_session() -> None:
    with of_class as sessions, sessions.open(424242) as s:
        assert_type(s, Session[Pizza])
        assert_type(s.data, Pizza)
        assert_type(s.data.count, int)
        assert_type(s.key, str)
        assert_type(s.exists, bool)
        s.data.count += 1
        s.data = Pizza(2)
        s.save()
        s.data = None
        s.release()

    with of_typed_dict.open("7") as piece, of_int.open("1") as counter:
        assert_type(piece.data.get("count", 0), int)
        counter.data += 1

    with of_type.open("1") as maybe:
        assert_type(maybe.data, Pizza | None)
        if maybe.data is None:
            maybe.data = Pizza()


def several_sessions() -> None:
    with of_class.open_many(["1", 2]) as opened:
        assert_type(opened, list[Session[Pizza]])
        assert_type(sum(s.data.count for s in opened), int)


def update_and_look() -> None:
    def bake(pizza: Pizza) -> Pizza:
        return Pizza(pizza.count + 1)

    def bake_in_place(pizza: Pizza) -> None:
        pizza.count += 1

    assert_type(of_class.update("1", bake), Pizza)
    assert_type(of_class.update("1", bake_in_place), Pizza)
    assert_type(of_class.update("1", lambda pizza: Pizza(pizza.count + 1)), Pizza)
    assert_type(of_int.update("1", lambda count: count + 1), int)
    assert_type(of_class.get("1"), Pizza | None)
    assert_type(of_type.get("1"), Pizza | None)
    assert_type(of_class.delete("1"), bool)
    assert_type(of_class.count(), int)
    assert_type(of_class.keys(), Iterator[str])
    assert_type(of_class.entries(), Iterator[tuple[str, Pizza]])
    assert_type(of_class.rewrite(dry_run=True), RewriteReport)
    assert_type(of_class.storage, Storage)
    of_class.put("1", Pizza(1))
    of_class.move("1", 2)
    of_class.close()
