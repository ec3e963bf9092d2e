"""Files: the shared suite, and what only files can do wrong."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsession import SessionManager
from chatsession.errors import SessionKeyError, StorageError
from chatsession.storages import Action, Change, Committed, LockRequest, Refused, open_storage
from chatsession.storages.file import FileStorage, _listing
from chatsession.storages.file._errors import storage_error
from chatsession.storages.file._names import Names
from chatsession.testing.conformance.expiry import ExpiryTests
from chatsession.testing.conformance.fencing import FencingTests
from chatsession.testing.conformance.life import LifeTests
from chatsession.testing.conformance.locks import LockTests
from chatsession.testing.conformance.single import put, read
from chatsession.testing.conformance.values import ValueTests
from chatsession.testing.storages import MakeStorage, MovableClock, StorageConformance


class TestFileStorage(StorageConformance):
    more_keys = ("=" + "0" * 64, ".chatsession", "42/424242", "424242.json", "424242.expires", "%3D", "=" * 200)

    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_storage(self, tmp_path: Path, clock: MovableClock) -> MakeStorage:
        return lambda: FileStorage(tmp_path / "sessions", clock=clock)


class TestInRealTimeWithoutSync(LifeTests, LockTests, FencingTests, ExpiryTests, ValueTests):
    """By the machine's clock, and without waiting for the disk; names, versions and enumeration are the same."""

    tick = 0.2

    @pytest.fixture
    def make_storage(self, tmp_path: Path) -> MakeStorage:
        return lambda: FileStorage(tmp_path / "sessions", fsync=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def storage(folder: Path, clock: MovableClock) -> AsyncIterator[FileStorage]:
    async with FileStorage(folder, clock=clock) as storage:
        yield storage


def files(folder: Path) -> list[str]:
    """All but what the storage keeps for itself."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(str(path) for path in paths if path.parts[0] != ".chatsession")


# Names


@given(st.text(min_size=1, max_size=80))
def test_a_name_is_safe_and_leads_back_to_its_key(key: str) -> None:
    name = Names().name_of(key)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-%ABCDEF=")
    assert len(name) + len(".expires") <= 255
    assert name.lower().partition(".")[0] not in {"con", "nul", "aux", "prn", "com1", "lpt9"}
    assert Names().is_digest(name) or Names().key_of(name) == key


@pytest.mark.parametrize("name", ["", "A", "a%2f", "%61", "con", "%FF", "a%2", ".", "..", "a.b", "é", "a" * 201, "=0"])
def test_a_foreign_name_leads_to_no_key(name: str) -> None:
    assert Names().key_of(name) is None


@pytest.mark.parametrize("key", ["", "\ud800"])
async def test_an_unusable_key_is_refused(storage: FileStorage, key: str) -> None:
    results = [
        *await storage.read_many([key]),
        *await storage.commit_many([Change(key, Action.PUT, b"1")]),
        *await storage.lock_many([LockRequest(key, "waiter", 1.0)]),
    ]
    assert [type(result) for result in results] == [SessionKeyError] * 3


# What lies in the folder


async def test_a_session_is_a_plain_file_where_grammy_has_it(storage: FileStorage, folder: Path) -> None:
    await put(storage, "424242", b'{"count":1}')
    await put(storage, "-100123", b"2")
    assert files(folder) == ["23/-100123.json", "42/424242.json"]
    assert json.loads((folder / "42/424242.json").read_bytes()) == {"count": 1}


async def test_grammys_file_is_read_and_replaced(storage: FileStorage, folder: Path) -> None:
    (folder / "42").mkdir()
    (folder / "42/424242.json").write_text('{\n\t"count": 7\n}')
    found = await read(storage, "424242")
    assert found is not None
    assert found.value == b'{\n\t"count": 7\n}'
    change = Change("424242", Action.PUT, b'{"count":8}', found.version)
    assert isinstance((await storage.commit_many([change]))[0], Committed)
    assert (folder / "42/424242.json").read_bytes() == b'{"count":8}'


async def test_an_expiry_is_a_link_to_a_time(storage: FileStorage, folder: Path, clock: MovableClock) -> None:
    await put(storage, "424242", b"1", ttl=90)
    link = folder / "42/424242.expires"
    assert datetime.fromisoformat(os.readlink(link)) == datetime.fromtimestamp(clock.now + 90, UTC)
    await put(storage, "424242", b"2")
    assert files(folder) == ["42/424242.json"]


async def test_a_fixed_expiry_is_measured_by_the_given_clock(storage: FileStorage, clock: MovableClock) -> None:
    clock.advance(-1e8)  # far from this machine's time
    async with SessionManager(int, storage=storage, ttl=60, expiry="fixed") as sessions:
        await sessions.update("chat", lambda count: count + 1)
        clock.advance(50)
        await sessions.update("chat", lambda count: count + 1)
        clock.advance(9)
        assert await sessions.get("chat") == 2
        clock.advance(1)
        assert await sessions.get("chat") is None


async def test_a_long_key_is_kept_beside_its_file_and_removed_with_it(
    storage: FileStorage, folder: Path, clock: MovableClock
) -> None:
    for key in ("🍕" * 300, "x" * 300):
        await put(storage, key, b"1", ttl=10)
    keys = [(folder / name).read_text() for name in files(folder) if name.endswith(".key")]
    assert sorted(keys) == sorted(["🍕" * 300, "x" * 300])
    await storage.commit_many([Change("x" * 300, Action.DELETE)])
    clock.advance(10)
    assert await storage.sweep() == 1
    assert files(folder) == []


async def test_a_sweep_removes_what_expired_and_stops_at_its_limit(
    storage: FileStorage, folder: Path, clock: MovableClock
) -> None:
    for number in range(50):
        await put(storage, str(number), b"1", ttl=10 if number % 2 else 20)
    clock.advance(10)
    assert await storage.sweep(10) == 10
    assert await storage.sweep() == 15
    assert len(files(folder)) == 2 * 25


async def test_expired_sessions_are_removed_in_the_background(folder: Path) -> None:
    async with FileStorage(folder, sweep_interval=0.01) as storage:
        await put(storage, "424242", b"1", ttl=0.01)
        async with asyncio.timeout(60):
            while files(folder):
                await storage.read_many(["424242"])


async def test_an_expired_session_stays_gone_when_another_follows(
    storage: FileStorage, folder: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between setting the new expiry and moving the new value in, the old value must be gone."""
    await put(storage, "424242", b"old", ttl=10)
    clock.advance(10)
    steps: list[tuple[str, list[str]]] = []

    rename = os.rename

    def watched(source: str, target: str) -> None:
        steps.append((Path(target).name, files(folder)))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    await put(storage, "424242", b"new", ttl=10)
    assert steps == [("424242.expires", []), ("424242.json", ["42/424242.expires"])]


# Torn and foreign files


def make_empty(path: Path) -> None:
    path.touch()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    (path.parent / "elsewhere").write_text("{}")
    path.symlink_to(path.parent / "elsewhere")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [make_empty, make_folder, make_link, make_pipe])
async def test_a_file_that_is_no_session_is_reported_and_kept(
    storage: FileStorage, folder: Path, make: Callable[[Path], None]
) -> None:
    await put(storage, "42", b"1")
    path = folder / "42/424242.json"
    make(path)
    before = path.lstat()
    results: list[object] = [
        *await storage.read_many(["42", "424242"]),
        *await storage.lock_many([LockRequest("424242", "w", 9.0), LockRequest("42", "w", 9.0)]),
    ]
    for action in (Action.PUT, Action.DELETE, Action.TOUCH):
        results += list(
            await storage.commit_many([Change("424242", action, b"2", ttl=5.0), Change("43", action, b"2")])
        )
    errors = [result for result in results if isinstance(result, StorageError)]
    assert len(errors) == 5
    assert all("424242.json" in str(error) and error.key == "424242" for error in errors)
    assert [key for key, _ in (await storage.scan("", None, 100)).entries] == ["42"]
    (fact,) = await storage.list_unreadable(100)
    assert fact.name == "42/424242.json"
    assert path.lstat() == before

    # Mended by hand, it can be locked at once: the failed try left no lock behind.
    path.rmdir() if make is make_folder else path.unlink()
    (locked,) = await storage.lock_many([LockRequest("424242", "w2", 9.0)])
    assert locked is not None
    assert not isinstance(locked, StorageError)


@pytest.mark.parametrize("path", ["ob/Bob.json", "2f/a%2f.json", "FF/%FF.json", f"00/={'0' * 64}.json", "00/42.json"])
async def test_a_foreign_name_is_reported(storage: FileStorage, folder: Path, path: str) -> None:
    foreign = folder / path
    foreign.parent.mkdir()
    foreign.write_text("{}")
    await put(storage, "424242", b"1")
    assert [key for key, _ in (await storage.scan("", None, 100)).entries] == ["424242"]
    assert (await storage.scan_keys("", None, 100))[0] == ["424242"]
    assert [fact.name for fact in await storage.list_unreadable(100)] == [path]
    assert foreign.read_text() == "{}"


async def test_other_files_in_the_folder_are_ignored(storage: FileStorage, folder: Path) -> None:
    await put(storage, "424242", b"1")
    for name in ("README.md", "42/.DS_Store", "42/424242.json~", "42/notes.txt", "x"):
        (folder / name).write_text("")
    (folder / "backup").mkdir()
    (folder / "backup/Bob.json").touch()
    assert [key for key, _ in (await storage.scan("", None, 100)).entries] == ["424242"]


async def test_a_malformed_expiry_is_reported(storage: FileStorage, folder: Path) -> None:
    await put(storage, "424242", b"1", ttl=5)
    link = folder / "42/424242.expires"
    link.unlink()
    link.symlink_to("tomorrow")
    assert "424242.expires" in str((await storage.read_many(["424242"]))[0])


# Versions


async def test_an_edit_by_hand_is_a_new_version(storage: FileStorage, folder: Path) -> None:
    for edit in ("in place", "by a new file", "keeping its time"):
        version = await put(storage, "424242", b'{"count":1}')
        path = folder / "42/424242.json"
        times = path.stat()
        if edit == "by a new file":
            (folder / "new").write_bytes(b'{"count":2}')
            (folder / "new").rename(path)
        else:
            path.write_bytes(b'{"count":2}' if edit == "in place" else b'{"count":22}')
        if edit == "keeping its time":
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        outcomes = await storage.commit_many([Change("424242", Action.PUT, b"3", version)])
        assert outcomes == [Refused.CONFLICT], edit
        assert path.read_bytes() != b"3"


async def test_the_same_bytes_stored_again_are_another_version(storage: FileStorage) -> None:
    versions: list[object] = []
    for _ in range(20):
        versions.append(await put(storage, "424242", b"1"))
        versions.append(await put(storage, "424242", b"1"))
        await storage.commit_many([Change("424242", Action.DELETE)])
    assert len(set(versions)) == 40


async def test_versions_differ_on_a_disk_with_a_coarse_clock(storage: FileStorage, folder: Path) -> None:
    await put(storage, "424242", b"1")
    path = folder / "42/424242.json"
    ahead = path.stat().st_mtime_ns + 10**12
    os.utime(path, ns=(ahead, ahead))
    found = await read(storage, "424242")
    assert found is not None
    await put(storage, "424242", b"2")
    assert path.stat().st_mtime_ns > ahead


# Enumeration


async def test_an_enumeration_holds_only_part_of_a_large_folder(
    storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listing, "WINDOW", 7)
    keys = [f"{number:03}-00" for number in range(100)] + ["1", "2"]
    await storage.commit_many([Change(key, Action.PUT, b"1") for key in keys])
    for limit in (1, 5, 7, 8, 1000):
        found: list[str] = []
        cursor = None
        while True:
            part, cursor = await storage.scan_keys("", cursor, limit)
            assert len(part) <= limit
            found += part
            if cursor is None:
                break
        assert sorted(found) == sorted(keys), limit


# Failures


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_errors_of_the_system_are_explained(number: int) -> None:
    error = storage_error(OSError(number, "x", "/data/42/424242.json"), "424242")
    assert "/data/42/424242.json" in str(error)
    assert "Errno" not in str(error)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/sessions"])
async def test_a_folder_that_cannot_be_made(path: str) -> None:
    storage = FileStorage(path)
    with pytest.raises(StorageError, match="/dev/null"):
        await storage.open()
    assert not storage.is_open
    with pytest.raises(StorageError, match="not open"):
        await storage.read_many(["1"])


async def test_a_removed_folder_is_an_error_not_a_missing_session(storage: FileStorage, folder: Path) -> None:
    await put(storage, "424242", b"1")
    os.rename(folder, f"{folder}-elsewhere")
    with pytest.raises(StorageError, match="removed or replaced"):
        await storage.read_many(["424242"])
    for result in (
        *await storage.lock_many([LockRequest("424242", "w", 9.0)]),
        *await storage.commit_many([Change("424242", Action.PUT, b"2")]),
    ):
        assert isinstance(result, StorageError)
    os.rename(f"{folder}-elsewhere", folder)
    found = await read(storage, "424242")
    assert found is not None
    assert found.value == b"1"


# URLs


def test_urls(tmp_path: Path) -> None:
    assert repr(open_storage("file:///srv/my%20sessions")) == "<FileStorage: /srv/my sessions>"
    assert repr(open_storage("file:sessions?fsync=no&sweep_interval=5")) == f"<FileStorage: {Path.cwd()}/sessions>"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file://sessions", "file:relative/folder"),
        ("file:", "must name a folder"),
        ("file:///", "must name a folder"),
        ("file:///a?fsync=maybe", "yes or no"),
        ("file:///a?sweep_interval=x", "number of seconds"),
        ("file:///a?sweep_interval=0", "positive"),
        ("file:///a?sync=no", "unknown"),
    ],
)
def test_wrong_urls(url: str, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        open_storage(url)
