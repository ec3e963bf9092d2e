"""Files as grammY names them: the shared suite, and what is different where somebody else writes in place."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsession.errors import SessionKeyError, StorageError
from chatsession.storages import Action, Change, Committed, Refused, open_storage
from chatsession.storages.file import FileStorage
from chatsession.storages.file._grammy_names import GrammyNames
from chatsession.testing.conformance.single import commit, put, read, scan_all, scan_all_keys, value_of
from chatsession.testing.storages import MakeStorage, MovableClock, StorageConformance


class TestFilesOfGrammy(StorageConformance):
    more_keys = ("=" + "0" * 64, "other", "other/a", ".chatsession", "42/424242", "424242.json", "x" * 247, "x" * 248)

    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_storage(self, tmp_path: Path, clock: MovableClock) -> MakeStorage:
        return lambda: FileStorage(tmp_path / "sessions", layout="grammy", clock=clock)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def storage(tmp_path: Path, clock: MovableClock) -> AsyncIterator[FileStorage]:
    async with FileStorage(tmp_path, layout="grammy", clock=clock) as storage:
        yield storage


@given(st.text(min_size=1))
def test_a_name_leads_back_to_its_key(key: str) -> None:
    try:
        name = GrammyNames().name_of(key)
    except SessionKeyError:
        return
    assert GrammyNames().is_digest(name) or GrammyNames().key_of(name) == key
    folder, _, file = name.rpartition("/")
    if folder:
        assert folder == "other"
    assert ".." not in (GrammyNames().folder_of(name), file)
    assert "/" not in file
    assert len(file.encode()) <= 247


@pytest.mark.parametrize("name", ["a/b", "other/", "other/A", "other/42", "other/a%2fb", "x" * 248, "42/424242"])
def test_names_that_no_key_has(name: str) -> None:
    assert GrammyNames().key_of(name) is None


async def test_the_layout_stands_in_the_url(tmp_path: Path) -> None:
    async with open_storage(f"file://{tmp_path}?layout=grammy") as storage:
        await put(storage, "bot:42", b"1")
        await put(storage, "Bob/..", b"2")
    assert (tmp_path / "42/bot:42.json").read_bytes() == b"1"
    assert (tmp_path / "other/%42ob%2F%2E%2E.json").read_bytes() == b"2"
    with pytest.raises(StorageError, match="layout"):
        open_storage(f"file://{tmp_path}?layout=telegraf")


def write(path: Path, text: str) -> None:
    """As grammY does: emptied, then filled."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


async def test_a_write_of_others_is_a_conflict(storage: FileStorage, tmp_path: Path) -> None:
    """Even twice within one tick of the file system's clock, and in as many bytes."""
    path = tmp_path / "42/42.json"
    write(path, "1")
    first = await read(storage, "42")
    assert first is not None
    stat = path.stat()
    write(path, "2")
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert await commit(storage, Change("42", Action.PUT, b"3", first.version)) is Refused.CONFLICT
    assert path.read_text() == "2"
    write(path, "1")
    assert type(await commit(storage, Change("42", Action.PUT, b"3", first.version))) is Committed


async def test_what_others_wrote_since_does_not_expire(
    storage: FileStorage, tmp_path: Path, clock: MovableClock
) -> None:
    await put(storage, "42", b"1", ttl=10)
    await put(storage, "43", b"1", ttl=10)
    write(tmp_path / "42/42.json", "1")
    record = await read(storage, "42")
    assert record is not None
    assert record.expires_at is None
    clock.advance(11)
    assert await storage.sweep() == 1
    assert [key for key, _ in await scan_all(storage)] == await scan_all_keys(storage) == ["42"]
    assert type(await commit(storage, Change("42", Action.TOUCH, ttl=10))) is Committed
    clock.advance(11)
    assert await read(storage, "42") is None


async def test_a_deletion_of_others_leaves_no_expiry(storage: FileStorage, tmp_path: Path, clock: MovableClock) -> None:
    await put(storage, "42", b"1", ttl=10)
    (tmp_path / "42/42.json").unlink()
    assert await read(storage, "42") is None
    write(tmp_path / "42/42.json", "2")
    clock.advance(11)
    await storage.sweep()
    assert await value_of(storage, "42") == b"2"


async def test_a_file_that_stays_empty_is_an_error(storage: FileStorage, tmp_path: Path) -> None:
    write(tmp_path / "42/42.json", "")
    (found,) = await storage.read_many(["42"])
    assert isinstance(found, StorageError)
    (outcome,) = await storage.commit_many([Change("42", Action.PUT, b"1")])
    assert isinstance(outcome, StorageError)


async def test_full_pages_are_read_once_they_rest(storage: FileStorage, tmp_path: Path) -> None:
    write(tmp_path / "42/42.json", '"' + "x" * 4094 + '"')
    assert len(await value_of(storage, "42") or b"") == 4096


async def test_names_that_differ_in_case_alone_are_refused_where_they_are_one(tmp_path: Path) -> None:
    (tmp_path / ".CHATSESSION").mkdir()  # as it seems to be there on a file system that folds case
    async with FileStorage(tmp_path, layout="grammy") as storage:
        for key in ("Bob", "é"):
            (outcome,) = await storage.commit_many([Change(key, Action.PUT, b"1")])
            assert isinstance(outcome, SessionKeyError), key
        for key in ("-100123:42", "A/B"):
            await put(storage, key, b"1")
