"""`get`, `set`, `rm`: one session at a time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from chatsession.cli._keys import decrypted, is_sealed, sealed
from chatsession.cli._options import AsJson, Key, Prefix, Url, Yes
from chatsession.cli._running import FOUND, MISSING, USAGE, CommandError, command, opened
from chatsession.cli._screen import emit, is_terminal, note, safe, safe_json, say
from chatsession.cli._values import for_scripts, indented, is_json, kind_of, plain, pretty
from chatsession.errors import SessionError, shown
from chatsession.maintenance import Maintenance, read, unchanged
from chatsession.storages import Storage

_PAGE = 200
_LONGEST = 100 * 365 * 86400
"""Seconds to live: what is longer was hardly meant, and infinity is said by no time at all."""


@command
async def get(
    url: Url,
    key: Key,
    raw: Annotated[bool, typer.Option("--raw", help="The very bytes that are stored, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one session: indented JSON, or text where it is no JSON."""
    async with opened(url) as storage:
        record = await read(storage, key)
    if record is None:
        raise _missing(key)
    if raw:
        sys.stdout.buffer.write(record.value)
        sys.stdout.buffer.flush()
        return
    value = plain(decrypted(key, record.value))
    if as_json:
        emit({"key": key, **for_scripts(value), "expires_at": record.expires_at, "size": len(record.value)})
    elif is_json(value):
        say(safe_json(indented(value)))
    else:
        note(f"this is no JSON, but {kind_of(value)}", "yellow")
        say(safe(pretty(value), keep="\n\t"))


@command
async def set_(
    url: Url,
    key: Key,
    value: Annotated[str | None, typer.Argument(metavar="[JSON]", help="What to store; -: read it from stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Store what is in this file.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Store it also if it is no JSON.")] = False,
    ttl: Annotated[
        float | None, typer.Option(min=0.001, max=_LONGEST, help="Seconds to live; else as long as before.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Only if there is no such session.")] = False,
) -> None:
    """Store a session, after the update that is running for it."""
    data = _given(value, file)
    if not raw and not is_json(data):
        raise CommandError(USAGE, "this is no JSON; nothing was written (strings need quotes; --raw stores any bytes)")
    async with opened(url, create=True) as storage, Maintenance(storage) as maintenance:
        before = await read(storage, key)
        if not raw and before is not None and is_sealed(before.value):
            data = sealed(key, data)
        await maintenance.change(key, data, seen=unchanged(None) if new else None, ttl=ttl)
    note(f"stored {safe(shown(key))}: {len(data):,} bytes")


@command
async def rm(
    url: Url,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]…", help="Their keys, with the prefix.")] = None,
    prefix: Prefix = "",
    yes: Yes = False,
) -> int | None:
    """Delete sessions, each after the update that is running for it."""
    if bool(keys) == bool(prefix):
        raise CommandError(USAGE, "name either keys or a --prefix")
    if "" in (keys or []):
        raise CommandError(USAGE, "a key has at least one character; nothing was deleted")
    async with opened(url) as storage:
        if prefix:
            return await _remove_all(storage, prefix, yes)
        missing = await _remove(storage, keys or [])
    for key in missing:
        note(f"there is no session {safe(shown(key))}", "red")
    return MISSING if missing else None


async def _remove(storage: Storage, keys: list[str]) -> list[str]:
    """Delete them; returns those that were not there."""
    missing: list[str] = []
    async with Maintenance(storage) as maintenance:
        for key in keys:
            if await maintenance.change(key, None) is None:
                missing.append(key)
    return missing


async def _remove_all(storage: Storage, prefix: str, yes: bool) -> int | None:
    if not yes:
        if not is_terminal():
            raise CommandError(USAGE, "this deletes many sessions; say --yes if that is meant")
        typer.confirm(f"Delete all sessions whose keys begin with {safe(shown(prefix))}?", abort=True, err=True)
    removed = failed = 0
    cursor: str | None = None
    async with Maintenance(storage) as maintenance:
        while True:
            keys, cursor = await storage.scan_keys(prefix, cursor, _PAGE)
            for key in keys:
                try:
                    removed += await maintenance.change(key, None) is not None
                except SessionError as error:
                    if error.key is None:
                        raise
                    failed += 1
                    note(safe(str(error)), "red")
            if cursor is None:
                break
    note(f"deleted {removed:,} sessions" + (f", and left {failed:,}" if failed else ""))
    return FOUND if failed else None


def _given(value: str | None, file: Path | None) -> bytes:
    if (value is None) == (file is None):
        raise CommandError(USAGE, "give the JSON, or - for stdin, or --file")
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise CommandError(USAGE, f"{safe(str(file))} cannot be read: {error.strerror}") from None
    if value == "-":
        return sys.stdin.buffer.read()
    try:
        return (value or "").encode()
    except UnicodeEncodeError:
        raise CommandError(
            USAGE, "this is no valid Unicode; nothing was written (- reads any bytes from stdin)"
        ) from None


def _missing(key: str) -> CommandError:
    return CommandError(MISSING, f"there is no session {safe(shown(key))}")
