"""Managers whose prefixes begin with each other's, on one storage: each command leaves the others' sessions alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cli_aids import Shell

from chatsession import SessionManager

ASIDE = "!quarantine:0011223344556677:cart:9"


@pytest.fixture
def shared(shell: Shell) -> Shell:
    """Sessions of the managers `cart:` and `cart:old:`, and of one without a prefix."""

    async def use() -> None:
        for prefix in ("cart:", "cart:old:"):
            async with SessionManager(int, storage=shell.url, prefix=prefix) as sessions:
                await sessions.put("1", 1)

    asyncio.run(use())
    shell.put({"42": b"{", "cart:2": b"2", ASIDE: b"{"})
    return shell


@pytest.fixture
def target(tmp_path: Path) -> Shell:
    return Shell(f"sqlite:///{tmp_path}/target.db")


def keys(shell: Shell) -> set[str]:
    return {key for key in shell.stored() if not key.startswith("!prefix:")}


def listed(shell: Shell, *arguments: str) -> list[str]:
    return [line["key"] for line in shell.run("ls", "--json", *arguments).lines]


def test_ls_lists_the_sessions_of_one_prefix(shared: Shell) -> None:
    assert listed(shared, "--prefix", "cart:") == ["cart:1", "cart:2"]
    assert listed(shared, "--prefix", "cart:old:") == ["cart:old:1"]
    assert listed(shared, "--prefix", "") == ["42"]
    assert listed(shared) == ["42", "cart:1", "cart:2", "cart:old:1"]
    assert listed(shared, "--prefix", "!quarantine:") == [ASIDE]
    assert listed(shared, "--prefix", "!prefix:") == []


def test_ls_says_whose_sessions_it_leaves_out(shared: Shell) -> None:
    assert "cart:old:" in shared.run("ls", "--prefix", "cart:").err
    assert "cart:" not in shared.run("ls", "--prefix", "cart:old:").err
    assert "left out" not in shared.run("ls").err


def test_a_limit_counts_only_what_is_listed(shared: Shell) -> None:
    assert listed(shared, "--limit", "3") == ["42", "cart:1", "cart:2"]


def test_rm_removes_the_sessions_of_one_prefix(shared: Shell) -> None:
    assert shared.run("rm", "--prefix", "cart:", "--yes").code == 0
    assert keys(shared) == {"42", "cart:old:1", ASIDE}
    assert "!prefix:cart:" in shared.stored()


def test_rm_of_no_prefix_leaves_other_managers_alone(shared: Shell) -> None:
    assert shared.run("rm", "--prefix", "", "--yes").code == 0
    assert keys(shared) == {"cart:1", "cart:2", "cart:old:1", ASIDE}


def test_rm_removes_no_written_down_prefix(shared: Shell) -> None:
    before = shared.stored()
    assert shared.run("rm", "--prefix", "!", "--yes").code == 0
    assert shared.run("rm", "--prefix", "!prefix:", "--yes").code == 0
    assert shared.stored() == before
    shared.run("rm", "--prefix", "!quarantine:", "--yes")
    assert before.keys() - shared.stored().keys() == {ASIDE}


def test_stats_and_count_count_one_prefix(shared: Shell) -> None:
    counts = {"cart:": 2, "cart:old:": 1, "": 1}
    for prefix, number in counts.items():
        assert shared.run("stats", "--json", "--prefix", prefix).json["sessions"] == number
        assert shared.run("count", "--prefix", prefix).out == f"{number}\n"
    assert shared.run("stats", "--json").json["sessions"] == 4
    assert shared.run("count").out == "4\n"


def test_export_and_import_take_one_prefix(shared: Shell, target: Shell) -> None:
    exported = shared.run("export", "--prefix", "cart:").lines
    assert [line["key"] for line in exported if "key" in line] == ["cart:1", "cart:2"]
    shared.run("export", "all.jsonl")
    with Path("all.jsonl").open("a") as file:
        file.write('{"key":"!prefix:cart:","value":{}}\n')
    target.run("import", "all.jsonl", "--prefix", "cart:old:")
    assert keys(target) == {"cart:old:1"}
    target.run("import", "all.jsonl")
    assert set(target.stored()) == {"42", "cart:1", "cart:2", "cart:old:1"}


def test_import_leaves_a_longer_prefix_alone(shared: Shell) -> None:
    lines = [{"key": key, "value": 7} for key in ("cart:1", "cart:old:1", "cart:old:2")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    shared.run("import", "--replace", "--prefix", "cart:", input=text.encode())
    assert shared.stored()["cart:1"] == b"7"
    assert shared.stored()["cart:old:1"] == b"1"
    assert "cart:old:2" not in shared.stored()


def test_copy_takes_one_prefix(shared: Shell, target: Shell) -> None:
    shared.run("copy", target.url, "--prefix", "cart:")
    assert set(target.stored()) == {"cart:1", "cart:2"}
    shared.run("copy", target.url)
    assert set(target.stored()) == {"42", "cart:1", "cart:2", "cart:old:1"}


def test_check_looks_at_one_prefix(shared: Shell) -> None:
    def found(*arguments: str) -> set[str]:
        return {line["key"] for line in shared.run("check", "--json", *arguments).lines}

    assert found() == {"42", ASIDE}
    assert found("--prefix", "cart:") == {ASIDE}
    assert found("--prefix", "cart:old:") == set()
    assert found("--prefix", "") == {"42"}


def test_check_tries_a_manager_on_its_own_sessions(
    shared: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bot_of_prefixes.py").write_text(
        "from chatsession import SessionManager\n"
        f"people = SessionManager(dict[str, str], storage={shared.url!r})\n"
        f"carts = SessionManager(int, storage={shared.url!r}, prefix='cart:')\n"
    )
    shared.put({"42": b'{"name":"Ann"}', "cart:old:1": b'"text"'})

    def found(manager: str) -> list[str]:
        done = shared.run("check", "--json", "--sessions", f"bot_of_prefixes:{manager}")
        return [line["key"] for line in done.lines if line["key"] != ASIDE]

    assert found("people") == []
    assert found("carts") == []


async def test_locks_are_listed_for_one_prefix(shell: Shell) -> None:
    async with (
        SessionManager(int, storage=shell.url, prefix="cart:") as carts,
        SessionManager(int, storage=shell.url, prefix="cart:old:") as old,
        carts.open("1"),
        old.open("1"),
    ):
        (lock,) = (await asyncio.to_thread(shell.run, "locks", "--json", "--prefix", "cart:")).lines
        assert lock["key"] == "cart:1"
