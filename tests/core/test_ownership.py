"""Rules 15c and 15d: which loop a manager belongs to, and which sessions are its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from chatsession import SessionManager


@dataclass
class Cart:
    items: list[str] = field(default_factory=list)


@dataclass
class Person:
    name: str = ""


def test_15c_a_new_loop_opens_the_storage_anew(tmp_path: Path) -> None:
    sessions = SessionManager(int, storage=f"sqlite:///{tmp_path}/bot.db")

    async def count() -> int:
        return await asyncio.wait_for(sessions.update(7, lambda count: count + 1), 60)

    assert [asyncio.run(count()) for _ in range(3)] == [1, 2, 3]


async def test_15d_a_manager_lists_its_own_sessions_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bot.db"
    async with (
        SessionManager(Cart, storage=url, prefix="cart:") as carts,
        SessionManager(Person, storage=url) as people,
    ):
        await carts.update(1, lambda _: Cart(["pizza"]))
        await people.update(2, lambda _: Person("Ann"))
        of_people, of_carts = people.keys(), carts.keys()
        assert [key async for key in of_people] == ["2"]
        assert [entry async for entry in people.entries()] == [("2", Person("Ann"))]
        assert [key async for key in of_carts] == ["1"]


async def test_15d_a_rewrite_leaves_other_sessions_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bot.db"
    async with SessionManager(Cart, storage=url, prefix="cart:") as carts:
        await carts.update(1, lambda _: Cart(["pizza"]))
    async with SessionManager(Person, storage=url, migrations={1: lambda old: {"name": old["name"]}}) as people:
        report = await people.rewrite()
    assert (report.rewritten, report.failed) == (0, 0)
    async with SessionManager(Cart, storage=url, prefix="cart:") as carts:
        assert await carts.get(1) == Cart(["pizza"])
