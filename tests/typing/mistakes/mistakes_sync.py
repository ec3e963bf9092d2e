"""Mistakes of users without asyncio: the type checker must refuse each line that ends in a mark, and no other one."""

from __future__ import annotations

from dataclasses import dataclass

from chatsession.sync import SessionManager


@dataclass
class Pizza:
    count: int = 0


class Sized:
    def __init__(self, size: int) -> None:
        self.size = size


sessions = SessionManager(Pizza)
maybe = SessionManager(type=Pizza)
SessionManager(Sized)  # error
SessionManager(Pizza, time_to_live=60)  # error
SessionManager(Pizza, concurrency="exlusive")  # error
wrong: SessionManager[int] = SessionManager(Pizza)  # error


async def bake(pizza: Pizza) -> Pizza:
    return pizza


def outside_of_any_update() -> None:
    sessions.open(1.5)  # error
    with sessions.open("1") as s:
        s.data.count = "many"  # error
        s.data = 5  # error
        s.key = "2"  # error
        s.data = Pizza()
    with maybe.open("1") as s:
        s.data.count += 1  # error
    sessions.open_many("1", "2")  # error
    sessions.update("1", lambda count: count + 1)  # error
    sessions.update("1", bake)  # error
    print(sessions.get("1").count)  # error
    sessions.put("1", 5)  # error
    for key, pizza in sessions.entries():
        pizza.counter = key  # error
