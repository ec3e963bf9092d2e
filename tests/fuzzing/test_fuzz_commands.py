"""Whatever is typed or imported, the command line answers with a code and a word, never with a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from fuzz_aids import damaged, envelopes, fuzzed, json_bytes, json_values, numbers, texts
from hypothesis import strategies as st
from typer.testing import CliRunner

from chatsession.cli._app import make_app
from chatsession.cli._values import for_scripts, pretty
from chatsession.storages import Action, Change
from chatsession.storages.sqlite import SQLiteStorage

CODES = {0, 1, 2, 3, 4, 5}
READING = ["ls", "get", "stats", "export", "check", "locks", "doctor", "copy"]
KEYS = ["1", "2", "\x1b[31m", "odd \u202e", "deep", "deeper"]


def run(*arguments: str, given: bytes = b"") -> tuple[int, str]:
    result = CliRunner().invoke(make_app(arguments), list(arguments), input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in CODES
    return result.exit_code, result.output


@contextlib.contextmanager
def folder_of_its_own() -> Iterator[Path]:
    before = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


async def _fill(values: list[bytes]) -> None:
    async with SQLiteStorage("bot.db") as storage:
        await storage.commit_many(
            [Change(key, Action.PUT, value) for key, value in zip(KEYS, values, strict=False)]
        )  # fmt: skip


async def _stored() -> list[Any]:
    async with SQLiteStorage("bot.db") as storage:
        return [(key, record.value) for key, record in (await storage.scan("", None, 100)).entries]


OTHERS = ["set", "rm", "import", "migrate", "move-in", "sweep", "ptb-chat-data", "aiogram", "grammy-files"]
OPTIONS = [
    *(
        "--json",
        "--prefix",
        "-p",
        "--yes",
        "--raw",
        "--resume-after",
        "--ttl",
        "--resume",
        "--force",
        "--file",
        "--new",
    ),
    *("--help", "--dry-run", "--older-than", "--limit", "--replace"),
]
PLACES = [
    "sqlite:///bot.db",
    "memory:",
    "file:sessions",
    "sqlite:///nowhere.db",
    "env:NOTHING",
    "redis://h:x",
    "bot.db",
]
VALUES = [
    "-",
    "nan",
    "inf",
    "-1",
    "1e999",
    "1",
    "",
    "\udcff",
    "☕",
    "bot:sessions",
    "os:path",
    ":",
    "..",
    "9" * 30,
    "{}",
    "[1]",
]
words = st.sampled_from([*READING, *OTHERS, *OPTIONS, *PLACES, *VALUES]) | texts


@fuzzed(st.lists(words, max_size=6), st.binary(max_size=10), examples=60)
def test_any_words_are_a_command_or_told_apart(arguments: list[str], given: bytes) -> None:
    if arguments[:1] in (["watch"], ["web"], ["edit"]):  # which would not end
        return
    arguments = [word.replace("\0", "") for word in arguments]  # no program can be given a NUL
    with folder_of_its_own():
        run(*arguments, given=given)


@fuzzed(
    st.lists(damaged(json_bytes | envelopes) | st.binary(max_size=20), min_size=4, max_size=4),
    st.integers(960, 1010),
    examples=8,
)
async def test_whatever_is_stored_can_be_looked_at_and_is_left_as_it_is(values: list[bytes], depth: int) -> None:
    deep = [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth]
    with folder_of_its_own():
        await _fill([*values, *deep])
        before = await _stored()

        def look() -> None:
            for command in READING:
                more = ["file:copy"] if command == "copy" else []
                if command == "get":
                    for key in KEYS:
                        for option in ([], ["--json"], ["--raw"]):
                            run("get", "sqlite:///bot.db", key, *option)
                else:
                    _, output = run(command, "sqlite:///bot.db", *more)
                    if command == "ls":
                        assert "\x1b" not in output
                        assert "\u202e" not in output

        await asyncio.to_thread(look)
        assert await _stored() == before


lines = st.fixed_dictionaries(
    {},
    optional={
        "chatsession": st.just(1) | json_values,
        "prefix": texts | json_values,
        "key": texts | json_values,
        "value": json_values,
        "base64": st.sampled_from(["", "AWUB", "A", "☕"]) | json_values,
        "expires_at": numbers | json_values | st.sampled_from([-1, 0, 1e308, 4e9]),
        "resume": texts,
        "end": st.integers(),
        "x": json_values,
    },
).map(msgspec.json.encode)


@pytest.mark.parametrize("url", ["sqlite:///bot.db", "file:sessions"])
def test_any_file_is_imported_or_told_apart(url: str) -> None:
    @fuzzed(st.lists(damaged(lines) | lines | st.binary(max_size=20), max_size=6), st.booleans(), examples=15)
    def check(parts: list[bytes], replace: bool) -> None:
        with folder_of_its_own() as folder:
            (folder / "dump").write_bytes(b"\n".join(parts))
            run("import", url, "dump", *(["--replace"] if replace else []))
            run("export", url, "again", "--resume")
            assert run("export", url, "whole")[0] in (0, 3)
            run("export", url, "dump", "--resume")

    check()


@pytest.mark.parametrize("depth", range(900, 1010))
def test_what_counts_as_json_can_be_shown(depth: int) -> None:
    for value in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        pretty(value)
        json.dumps(for_scripts(value))


def test_text_that_is_no_unicode_is_told(tmp_path: Path) -> None:
    code, output = run("set", f"sqlite:///{tmp_path}/bot.db", "1", "\udcff")
    assert code == 2
    assert "not valid Unicode" in output
