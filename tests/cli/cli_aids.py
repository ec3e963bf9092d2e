"""A shell with one storage, and what bots leave in it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from chatsession import open_storage
from chatsession.cli._app import make_app
from chatsession.storages import Action, Change, Committed, Record, Storage
from chatsession.storages.inspection import ListsLocks


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs commands on `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, command: str, *arguments: str, input: bytes | None = None) -> Done:  # noqa: A002 - as in subprocess
        """`chatsession COMMAND URL ARGUMENTS…`"""
        return self.bare(command, self.url, *arguments, input=input)

    def bare(self, *arguments: str, input: bytes | None = None) -> Done:  # noqa: A002 - as in subprocess
        """`chatsession ARGUMENTS…`"""
        result = CliRunner().invoke(make_app(arguments), list(arguments), input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def process(self, command: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """The same in a process of its own."""
        words = [sys.executable, "-m", "chatsession", command, self.url, *arguments]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def put(self, sessions: dict[str, bytes], ttl: float | None = None) -> None:
        asyncio.run(put_all(self.url, sessions, ttl))

    def stored(self) -> dict[str, bytes]:
        return {key: record.value for key, record in asyncio.run(all_records(self.url)).items()}

    def record(self, key: str) -> Record:
        return asyncio.run(all_records(self.url))[key]


async def put_all(url: str, sessions: dict[str, bytes], ttl: float | None = None) -> None:
    changes = [Change(key, Action.PUT, value, ttl=ttl) for key, value in sessions.items()]
    async with open_storage(url) as storage:
        for start in range(0, len(changes), storage.batch_size):
            outcomes = await storage.commit_many(changes[start : start + storage.batch_size])
            assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes


async def all_records(url: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    cursor: str | None = None
    async with open_storage(url) as storage:
        while True:
            page = await storage.scan("", cursor, 500)
            found.update(page.entries)
            if (cursor := page.cursor) is None:
                return found


def editor(folder: Path, script: str) -> str:
    """An EDITOR that does what a shell script says; `$1` is the file."""
    path = folder / "editor.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o700)
    return str(path)


async def until_awaited(storage: Storage) -> None:
    """Until somebody waits for the one lock that is held."""
    assert isinstance(storage, ListsLocks)
    while not (await storage.list_locks("", 10))[0].waiters:  # noqa: ASYNC110 - it is in another process
        await asyncio.sleep(0.005)
