"""Enumeration: by pages, with a prefix, while others write."""

from __future__ import annotations

import asyncio

import pytest

from chatsession.storages import Action, Change, Storage
from chatsession.testing.conformance.single import delete, lock, number, put, scan_all, scan_all_keys
from chatsession.testing.conformance.suite import StorageSuite

TRICKY = [
    "100", "100%", "100%_a", "1000", "100x", "a", "A", "a_b", "axb", "a*b", "a**b", "a?b", "a[b]", "a[b", "ab",
    "[ab]", "a\\b", "a\\\\b", "a\\", "a.b", "a^b", "a$b", "a{b}", "a'b", 'a"b', "a\0b", "a\0", "a b", "a ", " a",
    "ä", "a\u0308", "é", "e\u0301", "É", "ß", "ss", "ı", "i", "I", "\uffff", "\uffffb", "🍕", "🍕a", "🍔",
    "\U0010ffff", "\U0010ffffb", "\ue000", "\U00010000", "a/b", "a/b/c", "a//b", "a/", "a\nb", "a-b", "a:b", "-",
    "--a", "~",
]  # fmt: skip
PREFIXES = [
    *TRICKY, "1", "%", "_", "*", "?", "[", "[a-z]", "^", "\\", "a[", "a\\%", "\0", "e", "/", "no such key", "\ud800",
    "a\udfff",
]  # fmt: skip


class ScanTests(StorageSuite):
    """Every key once, in pages."""

    async def test_an_empty_storage(self, storage: Storage) -> None:
        assert await scan_all(storage) == []
        assert await scan_all_keys(storage, "prefix") == []

    @pytest.mark.parametrize("limit", [1, 7, 50, 1_000])
    async def test_every_record_is_given_once(self, storage: Storage, other: Storage, limit: int) -> None:
        count = 60 if limit == 1 else 300
        records = {f"chat:{n}": number(n) for n in range(count)}
        await storage.commit_many([Change(key, Action.PUT, value) for key, value in records.items()])
        found = await scan_all(other, limit=limit)
        assert sorted((key, record.value) for key, record in found) == sorted(records.items())
        assert sorted(await scan_all_keys(other, limit=limit)) == sorted(records)

    async def test_versions_are_given_too(self, storage: Storage, other: Storage) -> None:
        version = await put(storage, "key", b"1")
        ((key, record),) = await scan_all(other)
        assert (key, record.value, record.version) == ("key", b"1", version)
        await put(storage, "key", b"2", expect=record.version)

    async def test_pages_are_about_as_long_as_asked_for(self, storage: Storage) -> None:
        await storage.commit_many([Change(f"chat:{n}", Action.PUT, number(n)) for n in range(500)])
        cursor: str | None = None
        while True:
            page = await storage.scan("", cursor, 20)
            assert len(page.entries) <= 200
            cursor = page.cursor
            if cursor is None:
                return

    async def test_a_prefix_is_taken_literally(self, storage: Storage, other: Storage) -> None:
        """No character is a wildcard, no case is folded, and nothing is normalized."""
        await storage.commit_many([Change(key, Action.PUT, number(n)) for n, key in enumerate(TRICKY)])
        assert len(await scan_all(storage)) == len(TRICKY)
        for prefix in PREFIXES:
            expected = sorted(key for key in TRICKY if key.startswith(prefix))
            assert sorted(key for key, _ in await scan_all(other, prefix, 10)) == expected, prefix
            assert sorted(await scan_all_keys(other, prefix, 10)) == expected, prefix

    async def test_deleted_and_merely_locked_keys_are_not_given(self, storage: Storage, other: Storage) -> None:
        await put(storage, "stays", b"1")
        await put(storage, "goes", b"2")
        await delete(storage, "goes")
        await lock(storage, "locked")
        await lock(storage, "stays")
        assert [key for key, _ in await scan_all(other)] == ["stays"]
        assert await scan_all_keys(other) == ["stays"]

    async def test_a_scan_gives_each_lasting_key_while_others_come_and_go(
        self, storage: Storage, other: Storage
    ) -> None:
        lasting = [f"lasting:{n}" for n in range(200)]
        passing = [f"passing:{n}" for n in range(200)]
        mixed = [key for pair in zip(lasting, passing, strict=True) for key in pair]
        await storage.commit_many([Change(key, Action.PUT, b"1") for key in mixed])
        done = asyncio.Event()

        async def come_and_go() -> None:
            turn = 0
            while not done.is_set():
                turn += 1
                changes = [
                    *(Change(key, Action.DELETE) for key in passing[turn % 7 :: 7]),
                    *(Change(f"new:{turn}:{n}", Action.PUT, b"2") for n in range(2)),
                    *(Change(key, Action.PUT, number(turn)) for key in lasting[turn % 5 :: 5]),
                ]
                await other.commit_many(changes)
                await asyncio.sleep(0)

        writing = asyncio.create_task(come_and_go())
        try:
            seen: set[str] = set()
            cursor: str | None = None
            for _ in range(500):
                page = await storage.scan("", cursor, 10)
                seen.update(key for key, _ in page.entries)
                cursor = page.cursor
                if cursor is None:
                    break
                await asyncio.sleep(0)
        finally:
            done.set()
            await writing
        assert cursor is None, "an enumeration ends although others write"
        assert seen >= set(lasting)

    async def test_a_key_may_be_deleted_once_it_is_enumerated(self, storage: Storage) -> None:
        """As a broadcast does that forgets the chats which blocked the bot."""
        await storage.commit_many([Change(f"chat:{n}", Action.PUT, number(n)) for n in range(200)])
        seen: list[str] = []
        cursor: str | None = None
        while True:
            keys, cursor = await storage.scan_keys("chat:", cursor, 10)
            await storage.commit_many([Change(key, Action.DELETE) for key in keys])
            seen += keys
            if cursor is None:
                break
        assert sorted(set(seen)) == sorted(f"chat:{n}" for n in range(200))
        assert await scan_all(storage) == []
