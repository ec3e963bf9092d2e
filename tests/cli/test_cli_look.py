"""`ls`, `get`, `watch`, `stats`, and how what strangers wrote is shown."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest
from cli_aids import Shell

from chatsession import SessionManager

WILD = "a\x1b[31m\x07\0\u202e\u009b]0;title\n"


def test_ls_has_sizes_and_expiry(shell: Shell) -> None:
    shell.put({"chat:1": b'{"count":1}', "user:2": b"[]"})
    shell.put({"chat:3": b"3"}, ttl=7200)

    lines = shell.run("ls").out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["11", "B", "never", "json", "chat:1"],
        ["1", "B", "in", "2", "h", "json", "chat:3"],
        ["2", "B", "never", "json", "user:2"],
    ]
    assert [line["key"] for line in shell.run("ls", "--prefix", "chat:", "--json").lines] == ["chat:1", "chat:3"]


def test_ls_gives_pages_that_follow_each_other(shell: Shell) -> None:
    keys = [f"chat {number:03}'s" for number in range(25)]
    shell.put(dict.fromkeys(keys, b"1"))

    first = shell.run("ls", "--limit", "10", "--json")
    assert [line["key"] for line in first.lines] == keys[:10]
    assert "--after 'chat 009'\\''s'" in first.err
    second = shell.run("ls", "--limit", "10", "--json", "--after", "chat 009's")
    assert [line["key"] for line in second.lines] == keys[10:20]
    assert len(shell.run("ls", "--limit", "0", "--json").lines) == 25


def test_no_key_and_no_session_writes_to_the_terminal(shell: Shell) -> None:
    shell.put({WILD: json.dumps(WILD, ensure_ascii=False).encode(), "text": WILD.encode(), "bytes": b"\xff\x1b[0m"})
    seen = [
        shell.run("ls"),
        shell.run("ls", "--json"),
        shell.run("stats"),
        shell.run("check"),
        *(shell.run("get", key) for key in (WILD, "text", "bytes")),
        *(shell.run("get", key, "--json") for key in (WILD, "text", "bytes")),
        shell.run("rm", WILD + "missing"),
    ]
    for done in seen:
        assert (done.out + done.err).replace("\n", "").isprintable()
    assert seen[4].out == '"a\\u001b[31m\\u0007\\u0000\\u202e\\u009b]0;title\\n"\n'
    assert "a\\x1b[31m\\x07\\x00\\u202e\\x9b]0;title\\n" in seen[0].out


def test_get_shows_json_as_it_is_written(shell: Shell) -> None:
    shell.put({"42": '{"price":1.10,"name":"🍕","big":123456789012345678901234567890}'.encode()})

    assert shell.run("get", "42").out == (
        '{\n  "price": 1.10,\n  "name": "🍕",\n  "big": 123456789012345678901234567890\n}\n'
    )
    assert shell.run("get", "42", "--json").json["value"]["name"] == "🍕"


def test_get_shows_text_that_is_no_json(shell: Shell) -> None:
    shell.put({"42": b'{"count": 1', "43": b"\x00\xff"})

    done = shell.run("get", "42")
    assert (done.code, done.out) == (0, '{"count": 1\n')
    assert "not JSON" in done.err
    assert shell.run("get", "43", "--json").json["base64"] == "AP8="


def test_get_raw_gives_the_bytes(shell: Shell) -> None:
    shell.put({"42": b'{"a" :\n1}'})

    assert shell.run("get", "42", "--raw").out == '{"a" :\n1}'


@pytest.mark.parametrize("command", ["get", "rm", "edit"])
def test_a_missing_session_has_its_exit_code(shell: Shell, command: str) -> None:
    shell.put({"42": b"1"})

    done = shell.run(command, "43")
    assert (done.code, done.out) == (4, "")
    assert "there is no session '43'" in done.err


@pytest.mark.parametrize("command", ["ls", "stats", "check", "export"])
def test_a_mistyped_file_is_not_made(shell: Shell, command: str, tmp_path) -> None:
    done = shell.run(command)
    assert done.code == 3
    assert "bot.db" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_is_down_is_said_so_without_its_password(shell: Shell) -> None:
    done = shell.bare("ls", "redis://:s3cret-pw@127.0.0.1:1/0?retry_for=0.1")
    assert done.code == 3
    assert "Redis at" in done.err
    assert "s3cret-pw" not in done.err


def test_the_url_can_come_from_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.put({"42": b"1"})
    monkeypatch.setenv("BOT_STORAGE", shell.url)

    assert shell.bare("get", "env:BOT_STORAGE", "42").out == "1\n"
    assert shell.bare("get", "env:NO_STORAGE", "42").code == 2


def test_stats_count_and_name_what_stands_out(shell: Shell) -> None:
    shell.put({f"chat:{number}": b"1" * (number + 1) for number in range(10)})
    shell.put({"soon": b"1"}, ttl=100)
    shell.put({"later": b"1"}, ttl=1000)

    found = shell.run("stats", "--top", "2", "--json").json
    assert (found["sessions"], found["bytes"], found["expiring"]) == (12, 57, 2)
    assert [each["key"] for each in found["largest"]] == ["chat:9", "chat:8"]
    assert [each["key"] for each in found["next_to_expire"]] == ["soon", "later"]
    assert [each["key"] for each in found["oldest"]] == ["chat:0", "chat:1"]
    assert found["sizes"] == [
        {"up_to": 1, "sessions": 3},
        {"up_to": 2, "sessions": 1},
        {"up_to": 4, "sessions": 2},
        {"up_to": 8, "sessions": 4},
        {"up_to": 16, "sessions": 2},
    ]
    assert "█" in shell.run("stats").out


def test_stats_of_nothing(shell: Shell) -> None:
    shell.put({"42": b"1"})
    assert shell.run("stats", "--prefix", "nothing").out.startswith("0 sessions")


def test_watch_shows_each_change(shell: Shell, tmp_path) -> None:
    shell.put({"42": b'{"count":1,"name":"Ann"}'})
    with shell.process("watch", "42", "--every", "0.02", "--changes", "2") as watching:
        assert watching.stdout is not None
        head = [watching.stdout.readline() for _ in range(5)]
        assert b'"count": 1' in b"".join(head)
        shell.put({"42": b'{"count":2,"name":"Ann"}'})
        while b"changed" not in watching.stdout.readline():
            pass
        shell.run("rm", "42")
        rest = watching.stdout.read().decode()
    assert watching.returncode == 0
    assert '-  "count": 1,' in rest
    assert '+  "count": 2,' in rest
    assert '-  "name": "Ann"' in rest.partition("deleted")[2]


GROUP = "-1001000000006"


def test_ids_of_groups_are_keys(shell: Shell) -> None:
    assert shell.run("set", GROUP, "-5").code == 0
    assert shell.run("get", GROUP, "--json").json["value"] == -5
    assert shell.run("get", "--raw", GROUP).out == "-5"
    assert shell.run("watch", GROUP, "--changes", "1", "--every", "0.01", "--help").code == 0
    assert shell.run("ls", "--prefix", "-100", "--json").json["key"] == GROUP
    assert shell.run("locks", "--break", GROUP, "--yes").code == 4
    assert shell.run("rm", GROUP, "-1002").code == 4
    assert shell.stored() == {}


def test_a_group_too_many_is_told_by_its_id(shell: Shell) -> None:
    told = shell.run("count", GROUP).err
    assert GROUP in told
    assert "x00" not in told
    assert "\0" not in told


def test_options_that_do_not_exist_are_still_refused(shell: Shell) -> None:
    shell.put({"1": b"1"})
    assert shell.run("get", "1", "--jsn").code == 2
    assert shell.run("get", "1", "-x").code == 2


@pytest.mark.parametrize("key", ["🍕", "it's", "a\\b", "日本\n\t", "\x1b[31m", "plain"])
def test_the_shown_after_brings_the_next_page(shell: Shell, key: str) -> None:
    shell.put({key + end: b"1" for end in "12"})
    (told,) = [line for line in shell.run("ls", "--limit", "1").err.splitlines() if "--after" in line]
    word = told.partition("--after ")[2]
    given = subprocess.run(["bash", "-c", f"printf %s {word}"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert [line["key"] for line in shell.run("ls", "--json", "--after", given).lines] == [key + "2"]


@pytest.mark.parametrize(
    "command", [["get", ""], ["set", "", "1"], ["rm", ""], ["edit", ""], ["edit", "", "--new"], ["watch", ""]]
)
def test_an_empty_key_is_refused(shell: Shell, command: list[str]) -> None:
    shell.put({"1": b"1"})
    done = shell.run(*command)
    assert done.code == 2
    assert "a key has at least one character" in " ".join(done.err.split())
    assert shell.stored() == {"1": b"1"}


@pytest.mark.parametrize("ttl", ["inf", "nan", "-1", "0", "1e300"])
def test_a_time_to_live_is_a_number_of_seconds(shell: Shell, ttl: str) -> None:
    shell.put({"1": b"1"})
    assert shell.run("set", "1", "2", "--ttl", ttl).code == 2
    assert shell.stored() == {"1": b"1"}


def test_what_managers_write_down_is_no_session(shell: Shell) -> None:
    async def use() -> None:
        async with SessionManager(int, storage=shell.url, prefix="cart:") as carts:
            await carts.update("1", lambda count: count + 1)

    asyncio.run(use())
    assert [line["key"] for line in shell.run("ls", "--json").lines] == ["cart:1"]
    assert shell.run("stats", "--json").json["sessions"] == 1
    assert [line["key"] for line in shell.run("export").lines if "key" in line] == ["cart:1"]
