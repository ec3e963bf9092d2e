"""`watch`: one session as the bot changes it."""

from __future__ import annotations

import asyncio
import difflib
import sys
import time
from itertools import count
from typing import Annotated

import typer

from chatsession.cli._keys import decrypted, is_sealed
from chatsession.cli._options import AsJson, Key, Url
from chatsession.cli._running import command
from chatsession.cli._screen import emit, note, safe, say
from chatsession.cli._storage import opened
from chatsession.cli._values import for_scripts, pretty
from chatsession.errors import StorageUnavailableError, shown
from chatsession.maintenance import read
from chatsession.storages import Record, Storage

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@command
async def watch(
    url: Url,
    key: Key,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks.")] = 0.5,
    changes: Annotated[int, typer.Option(min=0, help="End after so many changes; 0: by Ctrl-C.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what changes in one session, as it happens; takes no lock."""
    async with opened(url) as storage:
        before = await _look(storage, key)
        if as_json:
            _emit(key, before)
        else:
            say(f"watching {shown(key)}; it is {'not there' if before is None else 'this now'}:", "bold")
            say("\n".join(_lines(before)))
        for number in count(1):
            if number > changes > 0:
                return
            after = await _next(storage, key, before, every)
            if as_json:
                _emit(key, after)
            else:
                _show_change(before, after)
            sys.stdout.flush()
            before = after


async def _next(storage: Storage, key: str, before: Record | None, every: float) -> Record | None:
    """Wait for the next version; go on asking while the storage is unreachable."""
    away = False
    while True:
        await asyncio.sleep(every)
        try:
            record = await _look(storage, key)
        except StorageUnavailableError as error:
            if not away:
                note(f"{error}; trying again", "yellow")
            away = True
            continue
        away = False
        if (record and record.value) != (before and before.value):
            return record


async def _look(storage: Storage, key: str) -> Record | None:
    record = await read(storage, key)
    if record is None or not is_sealed(record.value):
        return record
    return Record(decrypted(key, record.value), record.version, record.expires_at)


def _show_change(before: Record | None, after: Record | None) -> None:
    what = "deleted" if after is None else "changed" if before else "stored"
    say(f"{time.strftime('%H:%M:%S')} {what}", "bold")
    diff = difflib.unified_diff(_lines(before), _lines(after), n=2, lineterm="")
    _show_lines([line for line in diff if not line.startswith(("---", "+++"))])


def _show_lines(lines: list[str]) -> None:
    for line in lines:
        say(line, _STYLES.get(line[:1], ""))


def _lines(record: Record | None) -> list[str]:
    return [] if record is None else [safe(line) for line in pretty(record.value).splitlines()]


def _emit(key: str, record: Record | None) -> None:
    value = {"deleted": True} if record is None else for_scripts(record.value)
    emit({"at": time.time(), "key": key, **value})
    sys.stdout.flush()
