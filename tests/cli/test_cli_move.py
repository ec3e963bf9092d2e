"""`export`, `import`, `copy`: nothing lost, nothing overwritten, to be gone on with at any time."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from cli_aids import Shell, all_records, put_all, until_awaited

from chatsession import MemoryStorage, SessionManager, copying, maintenance, open_storage
from chatsession.errors import SessionKeyError
from chatsession.storages import Action, Change, Record
from chatsession.storages.inspection import ListsLocks

ODD = {
    "json": b'{"count":1,"name":"\xf0\x9f\x8d\x95"}',
    "lines": b'{"a":\n  1}',
    "bytes": b"\x01\xff\x00",
    "text": b"plain words",
    "empty": b"",
    "torn": b'{"a":[1',
    "number": b"123456789012345678901234567890.10",
    "surrogate": b'"\\ud800"',
    "key \x1b\x00\n\u202e🍕": b"1",
}


@pytest.fixture
def other(tmp_path: Path) -> Shell:
    return Shell(f"sqlite:///{tmp_path}/other.db")


def test_what_was_exported_comes_back(shell: Shell, other: Shell) -> None:
    shell.put(ODD)
    shell.put({"ending": b"1"}, ttl=1000)

    assert shell.run("export", "all.jsonl").code == 0
    done = other.run("import", "all.jsonl", "--json")
    assert (done.code, done.json["written"]) == (0, len(ODD) + 1)
    assert other.stored() == shell.stored() | {"lines": b'{"a":1}'}
    assert other.record("ending").expires_at == pytest.approx(shell.record("ending").expires_at, abs=60)
    assert Path("all.jsonl").stat().st_mode & 0o077 == 0


def test_an_export_is_json_lines(shell: Shell) -> None:
    shell.put({"42": b'{"count":1}', "43": b"\xff"})

    assert shell.run("export").lines == [
        {"chatsession": 1, "prefix": ""},
        {"key": "42", "value": {"count": 1}},
        {"key": "43", "base64": "/w=="},
        {"end": 2},
    ]


def test_an_import_again_writes_only_what_is_missing(shell: Shell, other: Shell) -> None:
    shell.put({"1": b"1", "2": b"2", "3": b"3"})
    shell.run("export", "all.jsonl")
    other.run("import", "all.jsonl")
    other.put({"2": b'"the bot was here"'})
    other.run("rm", "3")
    before = other.record("1")

    again = other.run("import", "all.jsonl", "--json").json
    assert (again["written"], again["same"], again["kept"]) == (1, 1, 1)
    assert other.record("1") == before
    assert other.stored()["2"] == b'"the bot was here"'
    assert other.run("import", "all.jsonl", "--replace", "--dry-run", "--json").json["written"] == 1
    assert other.stored()["2"] == b'"the bot was here"'
    assert other.run("import", "all.jsonl", "--replace", "--json").json["written"] == 1
    assert other.stored() == shell.stored()


@pytest.mark.parametrize("cut", [0, 10, 29, 30, 31, 2000, 20_000, 40_000, -20, -1])
def test_an_export_that_was_cut_off_goes_on(shell: Shell, cut: int) -> None:
    shell.put({f"chat:{number:04}": b"%d" % number for number in range(1200)})
    shell.run("export", "all.jsonl")
    whole = Path("all.jsonl").read_bytes()
    Path("cut.jsonl").write_bytes(whole[:cut])

    assert shell.run("export", "cut.jsonl").code == 2
    assert shell.run("export", "cut.jsonl", "--resume").code == 0
    # The pages, and so the marks, may lie elsewhere.
    assert sessions_in(Path("cut.jsonl").read_bytes()) == sessions_in(whole)
    assert shell.run("export", "cut.jsonl", "--resume").code == 0
    assert Path("cut.jsonl").read_bytes().splitlines()[-1] == b'{"end":1200}'


def test_an_export_goes_on_only_with_the_same_keys(shell: Shell) -> None:
    shell.put({"42": b"1"})
    Path("notes.txt").write_text('{"no": "export"}\n')
    shell.run("export", "chats.jsonl", "--prefix", "4")

    assert shell.run("export", "notes.txt", "--resume").code == 2
    assert shell.run("export", "chats.jsonl", "--resume").code == 2
    assert Path("notes.txt").read_text() == '{"no": "export"}\n'


def test_a_cut_file_is_imported_up_to_there_and_said_so(shell: Shell, other: Shell) -> None:
    shell.put({str(number): b"%d" % number for number in range(1000)})
    shell.run("export", "all.jsonl")
    whole = Path("all.jsonl").read_bytes()
    Path("cut.jsonl").write_bytes(whole[:-20])

    done = other.run("import", "cut.jsonl")
    assert done.code == 2
    assert len(other.stored()) == 999
    assert "line 10" in done.err
    assert other.run("import", "-", input=b"".join(whole.splitlines(keepends=True)[:-1])).code == 1
    assert other.stored() == shell.stored()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"key":"1","base64":"!"}', "not base64"),
        (b'{"key":"1"}', "neither value nor base64"),
        (b'{"key":"","value":1}', "its key is empty"),
        (b'{"key":1,"value":1}', "Expected `str`"),
        (b"[]", "Expected `object`"),
        (b'{"chatsession":2,"prefix":""}', "a newer version of chatsession wrote this file"),
        (b'{"key":"1","value":s3cret', "not JSON"),
    ],
)
def test_a_bad_line_is_named(shell: Shell, line: bytes, why: str) -> None:
    done = shell.run("import", input=b'{"key":"0","value":0}\n' + line + b"\n")
    assert done.code == 2
    assert "line 2: " in done.err
    assert why in done.err
    assert "s3cret" not in done.err
    assert shell.stored() == {"0": b"0"}


def test_an_import_goes_on_at_a_line(shell: Shell) -> None:
    lines = b"".join(b'{"key":"%d","value":%d}\n' % (number, number) for number in range(5))
    shell.run("import", "--from-line", "4", input=lines + b'{"end":5}\n')
    assert shell.stored() == {"3": b"3", "4": b"4"}


def test_copy_brings_everything_with_its_time_to_live(shell: Shell, other: Shell) -> None:
    shell.put(ODD)
    shell.put({"ending": b"1"}, ttl=1000)

    assert shell.run("copy", other.url).code == 0
    assert other.stored() == shell.stored()
    assert other.record("ending").expires_at == pytest.approx(shell.record("ending").expires_at, abs=60)
    assert shell.run("copy", other.url, "--json").json["same"] == len(ODD) + 1


def test_copy_of_a_prefix_dry(shell: Shell, other: Shell) -> None:
    shell.put({"chat:1": b"1", "chat:2": b"2", "user:1": b"3"})
    other.put({"chat:1": b"other"})

    planned = shell.run("copy", other.url, "--prefix", "chat:", "--dry-run")
    assert "would be copied: 1 of 2" in planned.err
    assert other.stored() == {"chat:1": b"other"}
    shell.run("copy", other.url, "--prefix", "chat:")
    assert other.stored() == {"chat:1": b"other", "chat:2": b"2"}


async def test_copy_loses_no_update_of_a_bot_on_the_target(tmp_path: Path) -> None:
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    keys = [str(number) for number in range(400)]
    await put_all(old, dict.fromkeys(keys, b"1000"))
    copied = 0
    async with SessionManager(int, storage=new) as bot, open_storage(old) as source, open_storage(new) as target:
        counted = dict.fromkeys(keys, 0)

        async def count() -> None:
            while not copying_now.done():
                for key in keys[::7]:
                    await bot.update(key, lambda count: count + 1)
                    counted[key] += 1

        copying_now = asyncio.create_task(copying.copy(source, target))
        await asyncio.gather(copying_now, count())
        copied = copying_now.result().written
        for key in keys:
            # Either the bot was first and its session is kept, or it went on from what was copied.
            assert await bot.get(key) in (counted[key], 1000 + counted[key])
    assert copied >= len(keys) - len(keys[::7])


@pytest.mark.parametrize("url", ["memory:", "sqlite:///target.db"])
async def test_copy_waits_for_the_first_update_of_a_chat_on_the_target(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, bots = MemoryStorage(), open_storage(url)
    await source.commit_many([Change("42", Action.PUT, b"1000")])
    async with bots, open_storage(url) as another, SessionManager(int, storage=bots) as bot:
        target = another if bots.shared else bots
        async with bot.open("42") as session:
            copied = asyncio.create_task(copying.copy(source, target))
            if bots.shared:
                await until_awaited(bots)
            else:
                await asyncio.sleep(0)
            session.data = 7
        assert (await copied).kept == 1
        assert await bot.get("42") == 7
        assert isinstance(bots, ListsLocks)
        assert await bots.list_locks("", 10) == []


async def test_copy_goes_on_after_a_stop(tmp_path: Path) -> None:
    source, target = MemoryStorage(), MemoryStorage()
    keys = [str(number) for number in range(300)]
    await source.commit_many([Change(key, Action.PUT, key.encode()) for key in keys])
    seen: list[copying.CopyReport] = []

    def stop_after_the_first_page(report: copying.CopyReport) -> None:
        seen.append(report)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copying.copy(source, target, progress=stop_after_the_first_page)
    (stopped,) = seen
    assert 0 < stopped.written < len(keys)
    assert not stopped.done
    rest = await copying.copy(source, target, resume_after=stopped.cursor)
    assert stopped.written + rest.written == len(keys)
    assert (rest.done, rest.cursor) == (True, None)


async def test_copy_passes_over_what_the_target_cannot_hold() -> None:
    class Refusing(MemoryStorage):
        async def commit_many(self, changes):  # type: ignore[no-untyped-def]  # as its base
            return [
                SessionKeyError("it is odd", key=change.key) if change.key == "1" else (await super_commit([change]))[0]
                for change in changes
            ]

    source, target = MemoryStorage(), Refusing()
    super_commit = super(Refusing, target).commit_many
    await source.commit_many([Change(key, Action.PUT, b"1") for key in "012"])
    report = await copying.copy(source, target)
    assert (report.written, report.failed, report.troubles) == (2, 1, ["session '1': it is odd"])


async def test_pages_of_large_sessions_are_small() -> None:
    storage = MemoryStorage()
    await storage.commit_many([Change(str(number), Action.PUT, b"x" * 1_000_000) for number in range(100)])
    sizes = [len(entries) async for entries, _ in maintenance.pages(storage, maintenance.Scope())]
    assert sum(sizes) == 100
    assert max(sizes) <= 4


def sessions_in(export: bytes) -> list[object]:
    return [line for line in map(json.loads, export.splitlines()) if "key" in line]


def records_are_whole(found: dict[str, Record], expected: dict[str, bytes]) -> bool:
    return all(expected[key] == record.value for key, record in found.items())


def test_ctrl_c_in_a_copy_leaves_everything_whole(shell: Shell, other: Shell) -> None:
    sessions = {f"chat:{number:06}": b'{"count":%d}' % number for number in range(20_000)}
    shell.put(sessions)
    other.put({})
    with shell.process("copy", other.url) as copying_process:
        while not asyncio.run(all_records(other.url)):
            pass
        copying_process.send_signal(2)
        assert copying_process.stderr is not None
        said = copying_process.stderr.read().decode()
    assert copying_process.returncode == 130, said
    assert "interrupted" in said
    found = asyncio.run(all_records(other.url))
    assert 0 < len(found) < len(sessions)
    assert records_are_whole(found, sessions)
    assert other.run("locks", "--json").out == ""
    assert shell.run("copy", other.url).code == 0
    assert other.stored() == sessions


async def test_a_copy_keeps_the_time_left_when_clocks_differ() -> None:
    source, target = MemoryStorage(clock=lambda: 1_000.0), MemoryStorage(clock=lambda: 500_000.0)
    async with source, target:
        await source.commit_many([Change("42", Action.PUT, b"1", ttl=60)])

        report = await copying.copy(source, target)

        (copied,) = await target.read_many(["42"])
    assert report.written == 1
    assert isinstance(copied, Record)
    assert copied.expires_at == 500_060.0


def test_an_export_carries_how_long_sessions_have_left(shell: Shell) -> None:
    shell.put({"ending": b"1"}, ttl=1000)

    (line,) = [line for line in shell.run("export").lines if "key" in line]

    assert line.keys() == {"key", "value", "expires_in"}
    assert 0 < line["expires_in"] <= 1000
    shell.run("import", "--replace", input=b'{"key":"ending","value":2,"expires_in":5000}\n')
    left = shell.record("ending").expires_at - time.time()
    assert 4000 < left <= 5000


def test_an_export_of_version_0_1_is_still_read(shell: Shell) -> None:
    at = time.time() + 1000
    shell.run("import", input=f'{{"key":"a","value":1,"expires_at":{at}}}\n{{"key":"b","value":1}}\n'.encode())
    assert shell.record("a").expires_at == pytest.approx(at, abs=60)
    assert shell.record("b").expires_at is None


async def test_a_replaced_session_gets_the_expiry_of_its_source(tmp_path: Path) -> None:
    source, target = MemoryStorage(), MemoryStorage()
    await source.commit_many([Change("42", Action.PUT, b"1")])
    await target.commit_many([Change("42", Action.PUT, b"2", ttl=60)])

    await copying.copy(source, target, existing="replace")

    (copied,) = await target.read_many(["42"])
    assert isinstance(copied, Record)
    assert (copied.value, copied.expires_at) == (b"1", None)
