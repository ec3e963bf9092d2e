"""`ls` with conditions, orders and CSV; `count`; and the URL from the environment."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import pytest
from cli_aids import Shell

from chatsession import SessionManager, generate_encryption_key
from chatsession.cli import listing


@pytest.fixture
def chats(shell: Shell) -> Shell:
    shell.put(
        {
            "1": b'{"step":"ask_address","cart":[{"size":30}],"paid":true}',
            "2": b'{"step":"ask_name","paid":1}',
            "3": b'{"__d":{"step":"ask_address","paid":false},"v":2}',
            "4": b"not JSON, but step=ask_address",
        }
    )
    shell.put({"5": b'{"step":null}'}, ttl=1000)
    shell.put({"6": b'{"n":"1"}'}, ttl=100)
    return shell


def listed(shell: Shell, *arguments: str) -> list[str]:
    return [line["key"] for line in shell.run("ls", "--json", *arguments).lines]


@pytest.mark.parametrize(
    ("conditions", "keys"),
    [
        (["step=ask_address"], ["1", "3"]),
        (["cart.0.size=30"], ["1"]),
        (["paid=true"], ["1"]),
        (["paid=1"], ["2"]),
        (["n=1"], ["6"]),
        (["step=null"], ["5"]),
        (["step=ask_address", "paid=false"], ["3"]),
        (["cart.1.size=30"], []),
        (["cart." + "9" * 5000 + "=1"], []),
        (["nothing=null"], []),
    ],
)
def test_ls_lists_sessions_with_a_value(chats: Shell, conditions: list[str], keys: list[str]) -> None:
    options = [word for condition in conditions for word in ("--where", condition)]
    assert listed(chats, *options) == keys
    assert chats.run("count", *options).out == f"{len(keys)}\n"


@pytest.mark.parametrize("condition", ["step", "=1", ""])
def test_a_condition_has_a_path_and_a_value(chats: Shell, condition: str) -> None:
    done = chats.run("ls", "--where", condition)
    assert done.code == 2
    assert "PATH=VALUE" in done.err


def test_a_page_of_matches_leads_to_the_next(chats: Shell) -> None:
    chats.put({f"many:{number:03}": b'{"odd":%d}' % (number % 2) for number in range(100)})
    first = chats.run("ls", "--where", "odd=1", "--limit", "30", "--json")
    assert len(first.lines) == 30
    last = first.lines[-1]["key"]
    rest = listed(chats, "--where", "odd=1", "--after", last)
    assert len(rest) == 20


def test_ls_searches_in_encrypted_sessions(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_encryption_key()

    async def use() -> None:
        async with SessionManager(dict[str, str], storage=shell.url, encryption_keys=[key]) as sessions:
            await sessions.put("42", {"step": "ask"})

    asyncio.run(use())
    assert listed(shell, "--where", "step=ask") == []
    monkeypatch.setenv("CHATSESSION_ENCRYPTION_KEYS", key)
    assert listed(shell, "--where", "step=ask") == ["42"]


def test_ls_sorts_all_sessions(chats: Shell) -> None:
    assert listed(chats, "--sort", "size")[:2] == ["1", "3"]
    assert listed(chats, "--sort", "expires")[:2] == ["6", "5"]
    assert listed(chats, "--sort", "key", "--limit", "2") == ["1", "2"]
    assert "4 more" in chats.run("ls", "--sort", "key", "--limit", "2").err
    assert chats.run("ls", "--sort", "key", "--after", "2").code == 2


def test_ls_writes_csv(chats: Shell) -> None:
    chats.put({'a,"b"\n=1': b"1"})
    rows = list(csv.reader(io.StringIO(chats.run("ls", "--csv").out)))
    assert rows[0] == ["key", "size", "expires_at", "kind"]
    assert rows[1] == ["1", "55", "", "json"]
    assert rows[-1] == ['a,"b"\n=1', "1", "", "json"]


def test_the_url_can_stand_in_a_variable(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHATSESSION_URL", shell.url)
    other = f"sqlite:///{tmp_path}/other.db"
    assert shell.bare("set", "-1001", '{"n": 1}').code == 0
    assert shell.bare("set", "sqlite", "2", "--ttl", "100").code == 0
    assert shell.bare("get", "-1001", "--raw").out == '{"n": 1}'
    assert shell.bare("get", "--raw", "--", "-1001").out == '{"n": 1}'
    assert [line["key"] for line in shell.bare("ls", "--json", "--limit", "8").lines] == ["-1001", "sqlite"]
    assert shell.bare("count").out == "2\n"
    assert shell.bare("export", "all.jsonl").code == 0
    assert shell.bare("import", other, "all.jsonl").code == 0
    assert shell.bare("copy", other).code == 0
    assert shell.bare("get", other, "-1001", "--raw").out == '{"n": 1}'
    assert shell.bare("rm", "-1001", "sqlite").code == 0
    assert shell.bare("count", other).out == "2\n"
    assert shell.bare("get").code == 2
    assert shell.bare("get", "--help").code == 0


def test_a_url_is_needed_without_the_variable(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATSESSION_URL", raising=False)
    done = shell.bare("ls")
    assert done.code == 2
    assert "URL" in done.err


def test_a_limit_holds_where_matches_are_far_apart(shell: Shell) -> None:
    shell.put({f"{number:05}": b'{"n":%d}' % (number // 1000) for number in range(3000)})
    first = shell.run("ls", "--where", "n=1", "--limit", "7", "--json")
    assert [line["key"] for line in first.lines] == [f"{number:05}" for number in range(1000, 1007)]
    assert "--after '01006'" in first.err
    assert len(listed(shell, "--where", "n=1", "--after", "01006", "--limit", "0")) == 993


def test_sorting_keeps_the_first_of_very_many(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_SPARE", 3)
    shell.put({f"{number:03}": b"1" * (number * 37 % 101) for number in range(1, 101)})
    done = shell.run("ls", "--sort", "size", "--limit", "4", "--json")
    assert [line["size"] for line in done.lines] == [100, 99, 98, 97]
    assert "96 more" in done.err
