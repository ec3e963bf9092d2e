"""What lies between a value and what is stored, on this storage: all of it on, alone and together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from chatsession import SessionFlavor, SessionManager
from chatsession.storages import Record, Storage
from chatsession.testing.conformance.suite import StorageSuite

_KEY = bytes(range(32))


def _same(data: object) -> object:
    return data


_OPTIONS: dict[str, dict[str, Any]] = {
    "migrations": {"migrations": {1: _same}},
    "encryption": {"encryption_keys": [_KEY]},
    "compression": {"compression": 1},
    "deduplicate": {"deduplicate": 3},
}


class FormTests(StorageSuite):
    """Two managers on two storage objects play two processes of one bot."""

    @pytest_asyncio.fixture(params=[*_OPTIONS, "all"])
    async def formed(
        self, request: pytest.FixtureRequest, storage: Storage, other: Storage
    ) -> AsyncIterator[tuple[SessionManager[list[int]], SessionManager[list[int]]]]:
        chosen = _OPTIONS.values() if request.param == "all" else [_OPTIONS[request.param]]
        options: dict[str, Any] = {name: value for each in chosen for name, value in each.items()}
        async with (
            SessionManager(list[int], storage=storage, **options) as here,
            SessionManager(list[int], storage=other, **options) as there,
        ):
            yield here, there

    async def test_no_update_is_lost_in_any_form(self, formed: tuple[SessionManager[list[int]], ...]) -> None:
        async def append(number: int) -> None:
            async with formed[number % 2].open("chat") as session:
                numbers = [*session.data]
                await asyncio.sleep(0)
                session.data = [*numbers, number]

        await asyncio.gather(*(append(number) for number in range(30)))
        assert sorted(await formed[0].get("chat") or []) == list(range(30))

    async def test_a_failed_handler_leaves_nothing_in_any_form(
        self, formed: tuple[SessionManager[list[int]], ...]
    ) -> None:
        here, there = formed
        await here.update("chat", lambda _: [1])

        async def fail() -> None:
            async with there.open("chat") as session:
                session.data.append(2)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await here.get("chat") == [1]

    async def test_a_moved_session_is_found_from_both_keys_in_any_form(
        self, formed: tuple[SessionManager[list[int]], ...]
    ) -> None:
        here, there = formed
        await here.update("-5", lambda _: [1])
        await asyncio.gather(here.move("-5", "-1005"), there.move("-5", "-1005"))
        await there.update("-5", lambda numbers: [*numbers, 2])
        await here.update("-1005", lambda numbers: [*numbers, 3])
        assert await there.get("-5") == [1, 2, 3]
        assert [key async for key in here.keys()] == ["-1005"]  # noqa: SIM118 - no dict's

    async def test_an_encrypted_session_is_not_readable_in_the_storage(self, storage: Storage) -> None:
        async with SessionManager(str, storage=storage, encryption_keys=[_KEY]) as sessions:
            await sessions.update("chat", lambda _: "a secret")
            (record,) = await storage.read_many(["chat"])
            assert isinstance(record, Record)
            assert b"secret" not in record.value
            assert await sessions.get("chat") == "a secret"

    async def test_an_update_that_comes_twice_changes_it_once(self, storage: Storage, other: Storage) -> None:
        class Update(SessionFlavor[int]):
            chat_id, update_id = 1, 7

        async def deliver(sessions: SessionManager[int]) -> None:
            ctx = Update()

            async def handler() -> None:
                ctx.session += 1

            await sessions.middleware()(ctx, handler)

        async with (
            SessionManager(int, storage=storage, deduplicate=2) as here,
            SessionManager(int, storage=other, deduplicate=2) as there,
        ):
            await asyncio.gather(*(deliver(each) for each in (here, there, here, there)))
            assert await there.get(1) == 1

    async def test_rewriting_brings_all_to_the_form_of_today(self, storage: Storage) -> None:
        async with SessionManager(int, storage=storage) as plain:
            for number in range(5):
                await plain.update(f"chat:{number}", lambda _, number=number: number)
        async with SessionManager(
            int, storage=storage, encryption_keys=[_KEY], allow_unencrypted=True, migrations={1: lambda n: n + 1}
        ) as sessions:
            report = await sessions.rewrite()
            assert (report.seen, report.rewritten, report.failed) == (5, 5, 0)
            assert sorted([data async for _, data in sessions.entries()]) == [1, 2, 3, 4, 5]
