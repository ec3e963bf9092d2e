"""What others can do to what is stored, with and without keys; `docs/security.md` links here."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from core_aids import put, value_of

from chatsession import (
    MemoryStorage,
    SessionDecodeError,
    SessionDecryptError,
    SessionLockTimeoutError,
    SessionManager,
    generate_encryption_key,
)
from chatsession.storages import LockRequest
from chatsession.storages.sqlite import SQLiteStorage

KEY = generate_encryption_key()
MOVED = b'{"__d":null,"m":"victim"}'


async def found(storage: Any, key: str, **options: Any) -> list[str] | None:
    async with SessionManager(list[str], storage=storage, **options) as sessions:
        return await sessions.get(key)


async def store(storage: Any, key: str, *parts: str, **options: Any) -> None:
    async with SessionManager(list[str], storage=storage, **options) as sessions:
        await sessions.update(key, lambda _: list(parts))


async def test_a_neighbour_can_lead_one_chat_to_the_data_of_another_unless_it_is_encrypted() -> None:
    async with MemoryStorage() as storage:
        await store(storage, "victim", "secret")
        await put(storage, "thief", MOVED)
        assert await found(storage, "thief") == ["secret"]
        await store(storage, "victim", "secret", encryption_keys=[KEY], allow_unencrypted=True)
        with pytest.raises(SessionDecryptError):
            await found(storage, "thief", encryption_keys=[KEY])


async def test_a_neighbour_who_wraps_the_data_of_another_chat_in_a_shell_of_its_own_gets_nowhere() -> None:
    async with MemoryStorage() as storage:
        await store(storage, "victim", "secret", encryption_keys=[KEY])
        sealed = await value_of(storage, "victim")
        assert sealed is not None
        for forged in (
            sealed,
            b'{"__d":' + sealed + b"}",
            b"\x01z" + sealed,
            b"\x01h\0\0\0\x0c" + b'{"__d":null}' + sealed,
        ):
            await put(storage, "thief", forged)
            with pytest.raises(SessionDecodeError):
                await found(storage, "thief", encryption_keys=[KEY])


async def test_a_neighbour_can_put_back_an_older_state_and_delete() -> None:
    """Which nothing here prevents, as the page says."""
    async with MemoryStorage() as storage:
        await store(storage, "chat", "rich", encryption_keys=[KEY])
        older = await value_of(storage, "chat")
        assert older is not None
        await store(storage, "chat", "poor", encryption_keys=[KEY])
        await put(storage, "chat", older)
        assert await found(storage, "chat", encryption_keys=[KEY]) == ["rich"]


async def test_a_neighbour_who_holds_a_lock_holds_up_this_chat_alone_and_no_longer_than_lock_timeout(
    tmp_path: Path,
) -> None:
    async with SQLiteStorage(tmp_path / "bot.db") as storage, SQLiteStorage(tmp_path / "bot.db") as neighbour:
        await neighbour.lock_many([LockRequest("chat", "neighbour", 1000.0)])
        options: dict[str, Any] = {"lock_timeout": 0.05}
        async with SessionManager(list[str], storage=storage, **options) as sessions:
            with pytest.raises(SessionLockTimeoutError):
                await sessions.update("chat", lambda data: data)
            assert await sessions.update("other", lambda _: ["well"]) == ["well"]


def all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_who_steals_the_file_finds_no_data_in_it_not_even_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    await store(SQLiteStorage(path), "chat", *["hunter2"] * 1000)
    async with SessionManager(
        list[str], storage=SQLiteStorage(path), encryption_keys=[KEY], allow_unencrypted=True
    ) as sessions:
        await sessions.rewrite()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    found = all_bytes(tmp_path)
    assert b"chat" in found
    assert b"hunter2" not in found


async def test_keys_write_no_line_of_their_own_into_a_log(caplog: pytest.LogCaptureFixture) -> None:
    key = "chat\nERROR forged\x1b[2J\u202e"
    async with MemoryStorage() as storage:
        await put(storage, key, b'"not a list"')
        with caplog.at_level(logging.DEBUG):
            async with SessionManager(list[str], storage=storage, on_decode_error="quarantine") as sessions:
                await sessions.update(key, lambda data: data)
                await sessions.move(key, "new")
            with pytest.raises(SessionDecodeError) as caught:
                await put(storage, key, b'"not a list"')
                async with SessionManager(list[str], storage=storage) as sessions:
                    await sessions.update(key, lambda data: data)
    lines = [record.getMessage() for record in caplog.records]
    assert lines
    for line in (*lines, str(caught.value)):
        assert not {"\n", "\x1b", "\u202e"} & set(line)
