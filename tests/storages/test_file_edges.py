"""The file storage at its edges: second loops, forks, folders of other programs, and such as can only be read."""

# ruff: noqa: ASYNC240 - small blocks read best where they stand

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chatsession import StorageError, open_storage
from chatsession.cli._app import make_app
from chatsession.storages.file import FileStorage, _storage
from chatsession.testing.conformance.single import lock, put, read, request, try_lock, unlock, value_of
from in_a_child import in_child


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def test_a_storage_that_forgot_a_closed_loop_opens_anew(folder: Path) -> None:
    storage = FileStorage(folder)

    async def first() -> None:
        await storage.open()
        await put(storage, "chat", b"1")

    async def second() -> bytes | None:
        storage.forget(inherited=False)
        assert not storage.is_open
        async with storage:
            assert len(os.listdir(folder / ".chatsession/wakes")) == 1
            return await value_of(storage, "chat")

    asyncio.run(first())
    assert asyncio.run(second()) == b"1"


async def test_a_forked_child_opens_the_folder_anew(folder: Path) -> None:
    async with FileStorage(folder) as storage:
        await put(storage, "ann", b"1")

        async def use() -> None:
            storage.forget(inherited=True)
            async with storage:
                assert len(os.listdir(folder / ".chatsession/wakes")) == 2
                await put(storage, "ben", b"2")

        in_child(lambda: asyncio.new_event_loop().run_until_complete(asyncio.wait_for(use(), 60)))
        assert await value_of(storage, "ben") == b"2"
        assert len(os.listdir(folder / ".chatsession/wakes")) == 1


async def test_a_waiter_of_the_parent_is_woken_by_a_child(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that read the pipe it inherited would take the message away."""
    monkeypatch.setattr(_storage, "LONGEST_WAIT", 3600.0)
    async with FileStorage(folder) as storage, FileStorage(folder) as other, asyncio.timeout(60):
        held = await lock(other, "chat")
        waiting = request("chat")
        assert await try_lock(storage, waiting) is None

        async def use() -> None:
            storage.forget(inherited=True)
            other.forget(inherited=True)
            async with storage:
                await unlock(storage, held.lease)

        in_child(lambda: asyncio.new_event_loop().run_until_complete(asyncio.wait_for(use(), 60)))
        await storage.wait_unlocked(waiting, 0)
        assert await try_lock(storage, waiting) is not None


async def test_a_forked_child_that_does_not_forget_is_refused(folder: Path) -> None:
    async with FileStorage(folder) as storage:

        async def use() -> None:
            with pytest.raises(StorageError, match="forked"):
                await storage.read_many(["chat"])

        in_child(lambda: asyncio.new_event_loop().run_until_complete(asyncio.wait_for(use(), 60)))


@pytest.mark.parametrize("content", [None, "", "notes/todo.json"])
async def test_without_create_a_foreign_folder_is_left_alone(folder: Path, content: str | None) -> None:
    if content is not None:
        folder.mkdir()
    if content:
        (folder / content).parent.mkdir()
        (folder / content).touch()
    for storage in (FileStorage(folder, create=False), open_storage(f"file://{folder}", create=False)):
        with pytest.raises(StorageError, match=r"there is no folder|holds no sessions"):
            await storage.open()
    assert folder.exists() == (content is not None)
    assert not (folder / ".chatsession").exists()


LOOK = """
import asyncio, os, sys
from chatsession import StorageError
from chatsession.storages.file import FileStorage
from chatsession.storages import Action, Change
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
async def main():
    async with FileStorage(sys.argv[1], create=False) as storage:
        print((await storage.scan("", None, 10)).entries[0][1].value)
        (outcome,) = await storage.commit_many([Change("chat", Action.PUT, b"2")])
        print(isinstance(outcome, StorageError))
asyncio.run(main())
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name) / "sessions"


@pytest.mark.parametrize("own", [True, False])
def test_without_create_a_read_only_copy_can_be_read(shared: Path, own: bool) -> None:
    async def fill() -> None:
        async with FileStorage(shared) as storage:
            await put(storage, "chat", b"1")

    asyncio.run(fill())
    if not own:
        (shared / ".chatsession").rename(shared.parent / "elsewhere")
    ran = subprocess.run([sys.executable, "-c", LOOK, shared], capture_output=True, text=True, check=False)
    assert ran.stdout == "b'1'\nTrue\n", ran.stderr


async def fill_with_strays(folder: Path) -> None:
    async with FileStorage(folder) as storage:
        await put(storage, "424242", b"1")
        await put(storage, "4243", b"1")
    (folder / "42/empty42.json").touch()
    (folder / "42/Notes.json").write_text("{}")
    (folder / "43/4242.json").write_text("{}")


@pytest.mark.parametrize(("command", "code"), [("ls", 0), ("stats", 0), ("export", 0), ("check", 1)])
def test_a_command_leaves_out_a_stray_file_alone(folder: Path, command: str, code: int) -> None:
    asyncio.run(fill_with_strays(folder))
    ran = CliRunner().invoke(make_app(), [command, f"file://{folder}"])
    assert ran.exit_code == code, ran.output
    if command == "check":
        assert "Notes.json" in ran.output
        assert "empty42" in ran.output
    else:
        assert "424242" in ran.output or "2 sessions" in ran.output


async def test_a_session_beside_a_stray_file_is_read(folder: Path) -> None:
    await fill_with_strays(folder)
    async with FileStorage(folder) as storage:
        found = await read(storage, "424242")
        assert found is not None
        (empty,) = await storage.read_many(["empty42"])
        assert isinstance(empty, StorageError)


@pytest.mark.parametrize("url", ["file:///srv/#1", "sqlite:///bot#1.db"])
def test_a_fragment_in_a_path_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="%23"):
        open_storage(url)
