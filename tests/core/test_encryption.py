"""Encryption and compression at rest: only who has the key reads, and nobody can swap or alter what is stored."""

# ruff: noqa: SIM118 - `keys()` is no dict's

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from core_aids import RecordingMemory

from chatsession import (
    SessionDecodeError,
    SessionDecryptError,
    SessionError,
    SessionManager,
    generate_encryption_key,
)
from chatsession.storages import Action, Change, Record, Storage

OLD, NEW = generate_encryption_key(), generate_encryption_key()


async def raw(storage: Storage, key: str = "chat") -> bytes:
    (record,) = await storage.read_many([key])
    assert isinstance(record, Record)
    return record.value


async def look(sessions: SessionManager[Any], key: str) -> None:
    async with sessions.open(key) as s:
        assert s.data is not None


async def put(storage: Storage, key: str, data: bytes) -> None:
    await storage.commit_many([Change(key, Action.PUT, data)])


def notes(storage: Storage, *keys: str | bytes, **options: Any) -> SessionManager[list[str]]:
    return SessionManager(list[str], storage=storage, encryption_keys=keys, **options)


async def fill(storage: Storage, *keys: str | bytes, key: str = "chat", **options: Any) -> None:
    async with notes(storage, *keys, **options) as sessions:
        await sessions.update(key, lambda data: [*data, "secret"])


async def test_what_is_stored_cannot_be_read(storage: Storage) -> None:
    await fill(storage, NEW)
    assert b"secret" not in await raw(storage)
    async with notes(storage, NEW) as sessions:
        assert await sessions.get("chat") == ["secret"]
        assert [entry async for entry in sessions.entries()] == [("chat", ["secret"])]
        assert [key async for key in sessions.keys()] == ["chat"]


async def test_the_same_data_looks_different_each_time(storage: Storage) -> None:
    await fill(storage, NEW, key="a")
    first = await raw(storage, "a")
    async with notes(storage, NEW) as sessions:
        await sessions.update("a", lambda _: ["other"])
        await sessions.update("a", lambda _: ["secret"])
    assert await raw(storage, "a") != first


async def test_an_unchanged_session_is_not_written() -> None:
    storage = RecordingMemory()
    await fill(storage, NEW)
    storage.writes.clear()
    async with notes(storage, NEW) as sessions:
        await look(sessions, "chat")
    assert storage.writes == []


@pytest.mark.parametrize("on_decode_error", ["raise", "quarantine", "reset"])
async def test_a_missing_key_is_an_error_and_leaves_the_data(storage: Storage, on_decode_error: Any) -> None:
    await fill(storage, OLD)
    before = await raw(storage)
    async with notes(storage, NEW, on_decode_error=on_decode_error) as sessions:
        with pytest.raises(SessionDecryptError, match=r"^session 'chat': it is encrypted with a key that is not among"):
            await look(sessions, "chat")
    async with SessionManager(list[str], storage=storage, on_decode_error=on_decode_error) as plain:
        with pytest.raises(SessionDecryptError, match="give the manager its encryption_keys"):
            await look(plain, "chat")
    assert await raw(storage) == before


async def test_older_keys_still_read_and_the_newest_is_written(storage: Storage) -> None:
    await fill(storage, OLD)
    async with notes(storage, NEW, OLD) as sessions:
        await look(sessions, "chat")  # looked at, unchanged, yet stored with the newest key
    async with notes(storage, NEW) as sessions:
        assert await sessions.get("chat") == ["secret"]


async def test_rewrite_rotates_all(storage: Storage) -> None:
    for n in range(5):
        await fill(storage, OLD, key=f"chat:{n}")
    async with notes(storage, NEW, OLD) as sessions:
        assert (await sessions.rewrite()).rewritten == 5
        assert (await sessions.rewrite()).rewritten == 0
    async with notes(storage, NEW) as sessions:
        assert [data async for _, data in sessions.entries()] == [["secret"]] * 5


async def test_plain_data_is_read_only_if_that_is_allowed(storage: Storage) -> None:
    await fill(storage)
    assert await raw(storage) == b'["secret"]'
    async with notes(storage, NEW) as sessions:
        with pytest.raises(SessionDecryptError, match="allow_unencrypted=True"):
            await look(sessions, "chat")
    async with notes(storage, NEW, allow_unencrypted=True) as sessions:
        assert (await sessions.rewrite()).rewritten == 1
    async with notes(storage, NEW) as sessions:
        assert await sessions.get("chat") == ["secret"]


async def test_a_ciphertext_of_another_chat_is_refused(storage: Storage) -> None:
    await fill(storage, NEW, key="mine")
    await fill(storage, NEW, key="yours")
    await put(storage, "mine", await raw(storage, "yours"))
    async with notes(storage, NEW) as sessions:
        with pytest.raises(SessionDecodeError, match="altered, or comes from another session"):
            await look(sessions, "mine")


async def test_every_flipped_bit_and_every_cut_is_found(storage: Storage) -> None:
    await fill(storage, NEW)
    good = await raw(storage)
    async with notes(storage, NEW) as sessions:
        for n in range(len(good)):
            await put(storage, "chat", good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :])
            with pytest.raises(SessionDecodeError):
                await sessions.get("chat")
            await put(storage, "chat", good[:n])
            with pytest.raises(SessionDecodeError):
                await sessions.get("chat")


async def test_damaged_data_is_set_aside_if_that_is_chosen(storage: Storage) -> None:
    await fill(storage, NEW)
    damaged = (await raw(storage))[:-1]
    await put(storage, "chat", damaged)
    async with notes(storage, NEW, on_decode_error="quarantine") as sessions:
        await sessions.update("chat", lambda _: ["new"])
        assert await sessions.get("chat") == ["new"]
        assert [key async for key in sessions.keys()] == ["chat"]
    keys, _ = await storage.scan_keys("!quarantine:", None, 10)
    assert await raw(storage, keys[0]) == damaged


def test_keys_are_checked_and_never_shown() -> None:
    for bad in ("c2hvcnQ=", "not base64!", b"short", 7):
        with pytest.raises(ValueError, match="encryption key number 2") as caught:
            notes(RecordingMemory(), NEW, bad)  # type: ignore[arg-type]
        assert str(bad) not in str(caught.value)
    with pytest.raises(ValueError, match="is a list of keys"):
        SessionManager(list[str], storage="memory:", encryption_keys=NEW)
    assert NEW not in repr(notes(RecordingMemory(), NEW).options)
    assert NEW not in repr(notes(RecordingMemory(), NEW))


async def test_compression_of_large_sessions(storage: Storage) -> None:
    async with SessionManager(list[str], storage=storage, compression=1000) as sessions:
        await sessions.update("small", lambda _: ["pizza"])
        await sessions.update("large", lambda _: ["pizza"] * 1000)
        assert await raw(storage, "small") == b'["pizza"]'
        assert len(await raw(storage, "large")) < 200
        assert await sessions.get("large") == ["pizza"] * 1000
        await sessions.update("large", lambda data: [*data, "more"])
    async with SessionManager(list[str], storage=storage) as plain:  # which compresses nothing, but reads it
        assert len(await plain.get("large") or []) == 1001


async def test_an_unchanged_compressed_session_is_not_written() -> None:
    storage = RecordingMemory()
    async with SessionManager(list[str], storage=storage, compression=10) as sessions:
        await sessions.update("chat", lambda _: ["pizza"] * 100)
        storage.writes.clear()
        await look(sessions, "chat")
        assert storage.writes == []


async def test_a_compressed_bomb_does_not_fill_the_memory(storage: Storage) -> None:
    import zstandard

    known = zstandard.ZstdCompressor().compress(b" " * 200_000_000)
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(b" " * 200_000_000)
    async with SessionManager(list[str], storage=storage) as sessions:
        for bomb in (known, unknown):
            await put(storage, "chat", b"\x01z" + bomb)
            with pytest.raises(SessionDecodeError, match=r"too large|more than"):
                await sessions.get("chat")
        await put(storage, "chat", b"\x01z" + known[:10])
        with pytest.raises(SessionDecodeError):
            await sessions.get("chat")


async def test_a_value_that_begins_like_something_of_ours_comes_back(storage: Storage) -> None:
    class Bytes:
        def encode(self, value: bytes) -> bytes:
            return value

        def decode(self, data: bytes) -> bytes:
            return data

    for value in (b"\x01e" + bytes(40), b"\x01z", b"\x01h\0\0", b"\x01", b'{"__d":1}', bytes(100)):
        async with SessionManager(bytes, storage=storage, codec=Bytes()) as sessions:
            await sessions.update("chat", lambda _, value=value: value)
            assert await sessions.get("chat") == value
        async with SessionManager(bytes, storage=storage, codec=Bytes(), deduplicate=2) as sessions:
            assert await sessions.get("chat") == value


async def test_all_together_lose_no_update(storage: Storage) -> None:
    options: dict[str, Any] = {
        "encryption_keys": [NEW, OLD],
        "compression": 100,
        "deduplicate": 5,
        "ttl": 1000,
        "migrations": {1: lambda data: data},
    }
    async with SessionManager(dict[str, int], storage=storage, **options) as sessions:

        async def one_more(key: str) -> None:
            async with sessions.open(key) as s:
                count = s.data.get("count", 0)
                await asyncio.sleep(0)
                s.data["count"] = count + 1

        await asyncio.gather(*(one_more(f"chat:{n % 5}") for n in range(200)))

        class FailedError(Exception):
            pass

        for n in range(5):
            with pytest.raises(FailedError):
                async with sessions.open(f"chat:{n}") as s:
                    s.data["count"] = 0
                    raise FailedError
            assert await sessions.get(f"chat:{n}") == {"count": 40}


def test_adapters_say_what_they_cannot_do() -> None:
    class Shelf:
        def read(self, key: str) -> None: ...
        def write(self, key: str, value: object) -> None: ...
        def delete(self, key: str) -> None: ...

    for option in ({"encryption_keys": [NEW]}, {"compression": 1}, {"deduplicate": 1}):
        with pytest.raises(SessionError, match="need a storage of bytes"):
            SessionManager(int, storage=Shelf(), **option)  # type: ignore[call-overload]
