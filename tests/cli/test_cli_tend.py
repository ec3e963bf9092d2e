"""`check`, `sweep`, `locks`, `doctor`, `migrate`, `rotate-keys`."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_aids import Shell, editor, put_all

from chatsession import SessionConflictError, SessionManager, generate_encryption_key
from chatsession.cli._running import CommandError
from chatsession.cli.locks import break_lock
from chatsession.storages import LockRequest
from chatsession.storages.inspection import HeldLock
from chatsession.storages.sqlite import SQLiteStorage


def test_check_is_silent_when_all_is_well(shell: Shell) -> None:
    shell.put({"42": b'{"count":1}', "43": b"null"})
    done = shell.run("check")
    assert (done.code, done.out) == (0, "")
    assert "looked at 2 sessions: all is well" in done.err


def test_check_finds_what_is_broken(shell: Shell) -> None:
    shell.put(
        {
            "good": b'{"count":1}',
            "text": b"plain words",
            "torn": b'{"a":[1',
            "empty": b"",
            "over": b'{"__d":{"count":1},"e":1000}',
            "moved": b'{"__d":null,"m":"gone"}',
            "moved well": b'{"__d":null,"m":"good"}',
            "!quarantine:0011223344556677:42": b"{",
        }
    )
    done = shell.run("check", "--json")
    assert done.code == 1
    assert {(line["key"], line["trouble"]) for line in done.lines} == {
        ("text", "undecodable"),
        ("torn", "torn"),
        ("empty", "torn"),
        ("over", "expired"),
        ("moved", "orphaned"),
        ("!quarantine:0011223344556677:42", "quarantined"),
    }


def test_check_knows_the_type_of_a_manager(shell: Shell, bot: Path) -> None:
    bot.write_text(f"from chatsession import SessionManager\nsessions = SessionManager(int, storage={shell.url!r})\n")
    shell.put({"42": b"1", "43": b'"s3cret"'})
    assert shell.run("check").code == 0
    done = shell.run("check", "--sessions", f"{bot.stem}:sessions")
    assert done.code == 1
    assert "'43'" in done.out
    assert "s3cret" not in done.out + done.err


def test_sweep_removes_what_has_expired(shell: Shell) -> None:
    shell.put({"1": b"1", "2": b"2"}, ttl=1000)
    shell.put({"3": b"3"})
    with closing(sqlite3.connect("bot.db", isolation_level=None)) as file:
        file.execute("UPDATE sessions SET expires_at = 1")
        file.execute("UPDATE sessions SET expires_at = NULL WHERE key = '3'")

    assert "2 expired sessions still take room" in shell.run("check").err
    assert shell.run("sweep", "--json").json == {"swept": 2}
    assert shell.run("check").err.endswith("all is well\n")
    assert shell.stored() == {"3": b"3"}


async def test_locks_show_who_holds_what(shell: Shell) -> None:
    async with SessionManager(int, storage=shell.url) as sessions, sessions.open("42"):
        (lock,) = (await asyncio.to_thread(shell.run, "locks", "--json")).lines
        assert lock["key"] == "42"
        assert lock["holder"].startswith("process ")
        assert lock["waiters"] == 0
        assert not lock["dead"]
        assert (await asyncio.to_thread(shell.run, "locks", "--prefix", "5", "--json")).out == ""


async def test_a_broken_lock_fences_its_holder_off(shell: Shell) -> None:
    async with SessionManager(int, storage=shell.url) as sessions:
        with pytest.raises(SessionConflictError):
            async with sessions.open("42") as session:
                session.data = 7
                assert (await asyncio.to_thread(shell.run, "locks", "--break", "42")).code == 2
                assert (await asyncio.to_thread(shell.run, "locks", "--break", "4", "--yes")).code == 4
                broken = await asyncio.to_thread(shell.run, "locks", "--break", "42", "--yes", "--json")
                assert (broken.code, broken.json["key"], broken.json["broken"]) == (0, "42", True)
                assert (await asyncio.to_thread(shell.run, "locks", "--break", "42", "--yes")).code == 4
        assert await sessions.get("42") is None


async def test_a_lock_that_went_to_somebody_else_is_not_broken(shell: Shell) -> None:
    async with SessionManager(int, storage=shell.url) as sessions, sessions.open("42") as session:
        stale = HeldLock("42", 0, 0.0)
        with pytest.raises(CommandError, match="by another update by now") as told:
            await break_lock(sessions.storage, stale, "42", yes=True, as_json=False)
        assert told.value.code == 4
        session.data = 7


async def test_a_lock_whose_holder_died_is_found(shell: Shell) -> None:
    await put_all(shell.url, {"42": b"1"})
    async with SQLiteStorage("bot.db") as storage:
        await storage.lock_many([LockRequest("42", "waiter", 1000)])
        with closing(sqlite3.connect("bot.db", isolation_level=None)) as file:
            file.execute("UPDATE session_holders SET identity = replace(identity, ' ', ' 9')")
        # No process has such a number; who opens the file next would clear it away.
        (lock,) = await storage.list_locks("", 10)
    assert lock.dead


def test_locks_say_where_they_are_not_available(tmp_path: Path) -> None:
    shell = Shell(f"file://{tmp_path}/sessions")
    shell.put({"42": b"1"})
    done = shell.run("locks")
    assert done.code == 3
    assert "not available for this storage" in done.err
    assert shell.run("doctor", "--write").code == 0
    assert [line["key"] for line in shell.run("ls", "--json").lines] == ["42"]


def test_doctor_tells_versions_latencies_and_durability(shell: Shell) -> None:
    shell.put({"42": b"1"})
    facts = {line["name"]: line for line in shell.run("doctor", "--write", "--json").lines}
    assert facts["SQLite"]["value"] == sqlite3.sqlite_version
    assert facts["journal_mode"]["value"] == "wal"
    assert facts["other processes with the file open"]["value"] == "none"
    assert facts["synchronous (this connection)"]["value"].startswith("normal")
    assert {"opened within", "a read takes", "a commit takes", "chatsession", "Python"} <= set(facts)
    assert shell.stored() == {"42": b"1"}
    assert "a commit takes" not in shell.run("doctor").out


def test_migrate_brings_all_sessions_up_to_date(shell: Shell, bot: Path) -> None:
    bot.write_text(
        "from chatsession import SessionManager\n"
        "def named(old):\n    return {**old, 'name': old.pop('title')}\n"
        f"sessions = SessionManager(type=dict[str, str], storage={shell.url!r}, migrations={{1: named}})\n"
    )
    shell.put({"42": b'{"title":"Ann"}', "43": b'{"no":"s3cret"}'})
    path = f"{bot.stem}:sessions"

    dry = shell.bare("migrate", path, "--dry-run", "--json")
    assert (dry.code, dry.json["seen"], dry.json["rewritten"]) == (1, 2, 1)
    assert shell.stored()["42"] == b'{"title":"Ann"}'
    done = shell.bare("migrate", path)
    assert done.code == 1
    assert "'43'" in done.err
    assert "s3cret" not in done.err
    assert b'"name":"Ann"' in shell.stored()["42"]
    assert shell.stored()["43"] == b'{"no":"s3cret"}'


def test_rotate_keys_encrypts_all_sessions_with_the_newest_key(shell: Shell, bot: Path) -> None:
    old, new = generate_encryption_key(), generate_encryption_key()
    text = (
        "from chatsession import SessionManager\nsessions = SessionManager(int, storage={!r}, encryption_keys={!r})\n"
    )
    first = SessionManager(int, storage=shell.url, encryption_keys=[old])

    async def count() -> None:
        async with first:
            await first.update("42", lambda count: count + 1)

    asyncio.run(count())
    bot.write_text(text.format(shell.url, [new, old]))
    before = shell.stored()["42"]
    assert shell.run("ls").out.split()[-2:] == ["encrypted", "42"]
    assert shell.run("edit", "42").code == 2
    assert shell.bare("rotate-keys", f"{bot.stem}:sessions").code == 0
    assert shell.stored()["42"] != before

    async def look() -> int | None:
        async with SessionManager(int, storage=shell.url, encryption_keys=[new]) as sessions:
            return await sessions.get("42")

    assert asyncio.run(look()) == 1


def test_encrypted_sessions_are_for_those_who_have_the_keys(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate_encryption_key()

    async def update(by: int) -> int:
        async with SessionManager(int, storage=shell.url, encryption_keys=[key]) as sessions:
            return await sessions.update("42", lambda count: count + by)

    asyncio.run(update(41))
    assert "encrypted" in shell.run("get", "42").err
    assert shell.run("set", "42", "7").code == 2
    monkeypatch.setenv("CHATSESSION_ENCRYPTION_KEYS", key)
    monkeypatch.setenv("EDITOR", editor(tmp_path, "echo 100 > $1"))
    assert shell.run("get", "42").out == "41\n"
    assert shell.run("edit", "42").code == 0
    assert asyncio.run(update(1)) == 101
    assert shell.run("set", "42", "7").code == 0
    assert asyncio.run(update(1)) == 8
    monkeypatch.setenv("CHATSESSION_ENCRYPTION_KEYS", generate_encryption_key())
    assert shell.run("get", "42").code == 1
    monkeypatch.setenv("CHATSESSION_ENCRYPTION_KEYS", "short")
    assert shell.run("get", "42").code == 2


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no_such_module_here:sessions", "cannot be imported"),
        ("json:sessions", "cannot be imported"),
        ("json:dumps", "not a SessionManager"),
        ("json", "module:name"),
        ("sqlite:///bot.db", "module:name"),
    ],
)
def test_a_wrong_manager_is_said_so(shell: Shell, path: str, why: str) -> None:
    done = shell.bare("migrate", path)
    assert done.code == 2
    assert why in done.err


def test_rotating_keys_needs_keys(shell: Shell, bot: Path) -> None:
    bot.write_text("from chatsession import SessionManager\nsessions = SessionManager(int, storage='memory:')\n")
    assert shell.bare("rotate-keys", f"{bot.stem}:sessions").code == 2


@pytest.fixture
def bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A module's file; each test has one of a name of its own, since modules are imported once."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / f"bot_of_{request.node.originalname}.py"


def test_updates_lists_what_was_set_aside(shell: Shell) -> None:
    shell.put({"!update:42:17": b'{"update_id":17}', "42": b"{}"})
    done = shell.run("updates", "--json")
    assert (done.code, done.lines) == (1, [{"key": "!update:42:17", "update": {"update_id": 17}}])
    assert shell.run("updates").out == '!update:42:17  {"update_id": 17}\n'
    assert shell.run("count").out.strip() == "1"
    assert shell.run("count", "--prefix", "!update:").out.strip() == "1"
    assert shell.run("rm", "!update:42:17", "--yes").code == 0
    assert shell.run("updates").code == 0
