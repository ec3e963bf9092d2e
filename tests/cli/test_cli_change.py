"""`set`, `edit`, `rm`: after the update that is running, and never over another change."""

from __future__ import annotations

import asyncio
import glob
import sys
import tempfile
from pathlib import Path

import pytest
from cli_aids import Shell, editor, put_all, until_awaited

from chatsession import SessionManager


def test_set_makes_and_replaces(shell: Shell) -> None:
    assert shell.run("set", "42", '{"count": 1}').code == 0
    assert shell.run("set", "42", "-", input=b'{"count": 2}').code == 0
    assert shell.stored() == {"42": b'{"count": 2}'}


def test_set_refuses_what_is_no_json(shell: Shell) -> None:
    assert shell.run("set", "42", "{count").code == 2
    assert not Path("bot.db").exists()
    assert shell.run("set", "42", "{count", "--raw").code == 0
    assert shell.stored() == {"42": b"{count"}


def test_set_new_leaves_what_is_there(shell: Shell) -> None:
    assert shell.run("set", "42", "1", "--new").code == 0
    done = shell.run("set", "42", "2", "--new")
    assert done.code == 5
    assert shell.stored() == {"42": b"1"}


def test_set_lets_a_session_live_as_long_as_before(shell: Shell) -> None:
    shell.put({"42": b"1"}, ttl=1000)
    before = shell.record("42").expires_at
    shell.run("set", "42", "2")
    after = shell.record("42")
    assert after.value == b"2"
    assert after.expires_at == pytest.approx(before, abs=60)
    shell.run("set", "42", "3", "--ttl", "5000")
    assert shell.record("42").expires_at == pytest.approx(before + 4000, abs=30)


def test_rm_of_several_says_which_were_missing(shell: Shell) -> None:
    shell.put({"1": b"1", "2": b"2", "3": b"3"})
    done = shell.run("rm", "1", "9", "3")
    assert done.code == 4
    assert "'9'" in done.err
    assert shell.stored() == {"2": b"2"}


def test_rm_of_a_prefix_wants_to_be_meant(shell: Shell) -> None:
    shell.put({f"test:{number}": b"1" for number in range(300)} | {"chat:1": b"1"})
    assert shell.run("rm", "--prefix", "test:").code == 2
    assert shell.run("rm").code == 2
    assert len(shell.stored()) == 301
    assert shell.run("rm", "--prefix", "test:", "--yes").code == 0
    assert shell.stored() == {"chat:1": b"1"}


async def test_changes_wait_for_the_update_that_is_running(shell: Shell) -> None:
    await put_all(shell.url, {"42": b'{"count":1}'})
    async with SessionManager(type=dict[str, int], storage=shell.url) as sessions:
        async with sessions.open("42") as session:
            assert session.data is not None
            setting = asyncio.create_task(asyncio.to_thread(shell.run, "set", "42", '{"count":100}'))
            await until_awaited(sessions.storage)
            session.data["count"] += 1
        assert (await setting).code == 0
        assert await sessions.get("42") == {"count": 100}


def test_edit_stores_what_the_editor_left(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put({"42": b'{"count":1,"name":"Ann"}'}, ttl=500)
    monkeypatch.setenv("EDITOR", editor(tmp_path, "sed -i 's/Ann/Bob/' $1"))

    assert shell.run("edit", "42").code == 0
    record = shell.record("42")
    assert record.value.replace(b" ", b"") == b'{"count":1,"name":"Bob"}'
    assert record.expires_at is not None
    assert drafts() == []


def test_edit_without_a_change_writes_nothing(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put({"42": b'{"count":1}'})
    before = shell.record("42")
    monkeypatch.setenv("EDITOR", "true")

    assert "nothing was changed" in shell.run("edit", "42").err
    assert shell.record("42") == before
    assert drafts() == []


def test_edit_does_not_overwrite_what_the_bot_stored_meanwhile(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.put({"42": b'{"count":1}'})
    bot = "from chatsession.__main__ import main; main()"
    script = f"""{sys.executable} -c '{bot}' set {shell.url} 42 '{{"count":2}}'; echo '{{"count": 777}}' > $1"""
    monkeypatch.setenv("EDITOR", editor(tmp_path, script))

    done = shell.run("edit", "42")
    assert done.code == 5
    assert "nothing was overwritten" in done.err
    assert shell.stored() == {"42": b'{"count":2}'}
    (draft,) = drafts()
    assert draft in done.err
    assert Path(draft).read_text() == '{"count": 777}\n'
    assert Path(draft).stat().st_mode & 0o077 == 0
    Path(draft).unlink()


def test_edit_keeps_text_that_is_no_json(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put({"42": b'{"count":1}'})
    monkeypatch.setenv("EDITOR", editor(tmp_path, "echo '{count' > $1"))

    done = shell.run("edit", "42")
    assert done.code == 2
    assert shell.stored() == {"42": b'{"count":1}'}
    (draft,) = drafts()
    assert Path(draft).read_text() == "{count\n"
    Path(draft).unlink()


def test_edit_mends_a_session_that_does_not_decode(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.put({"42": b'{"count":1'})
    monkeypatch.setenv("EDITOR", editor(tmp_path, "printf '}' >> $1"))

    assert shell.run("edit", "42").code == 0
    assert shell.stored() == {"42": b'{"count":1}'}


def test_edit_makes_a_session_only_when_told(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put({"1": b"1"})
    monkeypatch.setenv("EDITOR", editor(tmp_path, "echo 7 > $1"))

    assert shell.run("edit", "42", "--new").code == 0
    assert shell.stored()["42"].strip() == b"7"


def test_edit_says_that_there_is_no_editor(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put({"42": b"1"})
    monkeypatch.setenv("EDITOR", "no-such-editor")
    done = shell.run("edit", "42")
    assert done.code == 2
    assert "EDITOR" in done.err
    monkeypatch.setenv("EDITOR", "false")
    assert shell.run("edit", "42").code == 2
    assert drafts() == []


def test_a_session_of_10_mb_is_shown_edited_and_stored(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.put({"42": b'{"text":"' + b"x" * 10_000_000 + b'"}'})
    monkeypatch.setenv("EDITOR", editor(tmp_path, "sed -i 's/text/more/' $1"))

    assert shell.run("edit", "42").code == 0
    assert len(shell.run("get", "42").out) > 10_000_000
    assert shell.stored()["42"].startswith(b'{"more":"xxx')


@pytest.fixture(autouse=True)
def _own_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "drafts"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def drafts() -> list[str]:
    return glob.glob(f"{tempfile.gettempdir()}/chatsession-*")


def test_a_change_that_waits_for_an_update_says_so(shell: Shell) -> None:
    async def change(command: str, *arguments: str) -> str:
        async with SessionManager(int, storage=shell.url) as bot:
            async with bot.open("42") as session:
                session.data = 1
                process = shell.process(command, "42", *arguments)
                assert process.stderr is not None
                said = await asyncio.to_thread(process.stderr.readline)
            await asyncio.to_thread(process.communicate)
        assert process.returncode == 0
        return said.decode()

    for command in (["set", "7"], ["rm"]):
        assert "waiting for the update that is running for '42'" in asyncio.run(change(*command))
    assert shell.stored() == {}


def test_rm_says_what_it_removed(shell: Shell) -> None:
    shell.put({"1": b"1234", "2": b"2"})
    assert "deleted '1' (4 B)" in shell.run("rm", "1").err
    assert shell.run("delete", "2", "9", "--json").lines == [
        {"key": "2", "removed": True},
        {"key": "9", "removed": False},
    ]


def test_rm_of_a_prefix_says_how_many_there_are(shell: Shell) -> None:
    shell.put({f"test:{number}": b"1" for number in range(3)})
    assert "3 sessions whose keys begin with 'test:'" in shell.run("rm", "--prefix", "test:").err
    assert shell.run("rm", "--prefix", "test:", "--yes", "--json").json == {"removed": 3, "failed": 0}
    assert "deleted 0 sessions" in shell.run("rm", "--prefix", "test:").err


def test_changes_are_told_as_json(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.run("set", "42", "123", "--json").json == {"key": "42", "stored": True, "size": 3}
    monkeypatch.setenv("EDITOR", editor(tmp_path, "true"))
    assert shell.run("edit", "42", "--json").json == {"key": "42", "stored": False}
    assert shell.run("export", "all.jsonl", "--json").json == {"exported": 1, "file": "all.jsonl"}
