"""Opening, closing, and what is still there afterwards."""

from __future__ import annotations

import asyncio

from chatsession.errors import StorageError
from chatsession.storages import Action, Change, Committed, Storage
from chatsession.testing.conformance.single import commit, lock, number, put, unlock, value_of
from chatsession.testing.conformance.suite import MakeStorage, OpenAnother, StorageSuite

_MOMENTS = 12
"""Turns of the event loop after which a call is cancelled, from 0."""


class LifeTests(StorageSuite):
    """Of one object, and of what it stored."""

    async def test_open_and_close_may_be_called_twice(self, make_storage: MakeStorage) -> None:
        storage = make_storage()
        assert not storage.is_open
        await storage.close()
        for _ in range(2):
            await storage.open()
            await storage.open()
            assert storage.is_open
            await put(storage, "key", b"1")
            await storage.close()
            await storage.close()
            assert not storage.is_open

    async def test_a_stored_session_is_there_after_closing_and_opening(self, make_storage: MakeStorage) -> None:
        storage = make_storage()
        async with storage:
            version = await put(storage, "key", b"1")
            await storage.commit_many([Change(f"key-{n}", Action.PUT, number(n)) for n in range(100)])
        async with storage:
            assert await value_of(storage, "key") == b"1"
            version = await put(storage, "key", b"2", expect=version)
        if storage.shared:
            storage = make_storage()
        async with storage:
            assert await value_of(storage, "key") == b"2"
            assert await value_of(storage, "key-99") == b"99"
            await put(storage, "key", b"3", expect=version)

    async def test_tokens_grow_across_closing_and_opening(self, make_storage: MakeStorage) -> None:
        storage = make_storage()
        tokens: list[int] = []
        for _ in range(3):
            async with storage:
                locked = await lock(storage, "key")
                tokens.append(locked.lease.token)
                await unlock(storage, locked.lease)
            storage = make_storage() if storage.shared else storage
        assert tokens == sorted(set(tokens))

    async def test_closing_one_leaves_the_others_open(self, storage: Storage, make_storage: MakeStorage) -> None:
        if storage.shared:
            async with make_storage() as other:
                await put(other, "key", b"1")
            await put(storage, "key", b"2")
            assert await value_of(storage, "key") == b"2"

    async def test_opened_by_many_at_once(self, open_another: OpenAnother) -> None:
        storages = await asyncio.gather(*(open_another() for _ in range(5)))
        await asyncio.gather(*(put(each, f"key-{n}", number(n)) for n, each in enumerate(storages)))
        assert [await value_of(storages[-1], f"key-{n}") for n in range(5)] == [number(n) for n in range(5)]

    async def test_no_task_is_left_running(self, make_storage: MakeStorage) -> None:
        before = asyncio.all_tasks()
        async with make_storage() as storage:
            await asyncio.gather(*(put(storage, f"key-{n}", b"1") for n in range(20)))
        assert asyncio.all_tasks() <= before

    async def test_a_cancelled_call_ends_and_leaves_no_task(self, make_storage: MakeStorage) -> None:
        before = asyncio.all_tasks()
        async with make_storage() as storage:
            for moment in range(_MOMENTS):
                changes = [Change(f"key-{n}", Action.PUT, number(moment)) for n in range(3)]
                task = asyncio.ensure_future(storage.commit_many(changes))
                for _ in range(moment):
                    await asyncio.sleep(0)
                was_running = task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or not was_running, "a cancelled call went on to its end"
            assert isinstance(await commit(storage, Change("key-0", Action.PUT, b"after")), Committed)
            assert await value_of(storage, "key-0") == b"after"
        assert asyncio.all_tasks() <= before

    async def test_closed_it_says_so_or_serves_but_never_answers_wrong(self, make_storage: MakeStorage) -> None:
        storage = make_storage()
        async with storage:
            await put(storage, "key", b"1")
        try:
            found = await storage.read_many(["key"])
            outcome = await commit(storage, Change("key", Action.PUT, b"2"))
        except StorageError:
            return
        finally:
            await storage.close()
        assert [getattr(record, "value", record) for record in found] == [b"1"] or isinstance(found[0], StorageError)
        assert isinstance(outcome, Committed | StorageError)

    async def test_its_repr_tells_no_secret(self, storage: Storage) -> None:
        await put(storage, "some key", b'"some data"')
        assert "some data" not in repr(storage)
        assert "password" not in repr(storage)
