"""`get` and `set`: one session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from chatsession.cli._keys import decrypted, is_sealed, sealed
from chatsession.cli._options import AsJson, Key, Url
from chatsession.cli._running import MISSING, USAGE, CommandError, command, interruptible
from chatsession.cli._screen import emit, note, safe, safe_json, say, tell
from chatsession.cli._storage import opened, says_it_waits
from chatsession.cli._values import for_scripts, indented, kind_of, plain, pretty
from chatsession.contents import is_json
from chatsession.errors import shown
from chatsession.maintenance import Maintenance, read, unchanged
from chatsession.storages.inspection import size_text

_LONGEST = 100 * 365 * 86400
"""Seconds to live. A longer time is a mistake; a session without one never expires."""


@command
async def get(
    url: Url,
    key: Key,
    raw: Annotated[bool, typer.Option("--raw", help="The very bytes that are stored, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one session: indented JSON, or text where it is not JSON."""
    async with opened(url) as storage:
        record = await read(storage, key)
    if record is None:
        raise CommandError(MISSING, f"there is no session {shown(key)}")
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
        note(f"this is not JSON, but {kind_of(value)}", "yellow")
        say(safe(pretty(value), keep="\n\t"))


@command
async def set_(
    url: Url,
    key: Key,
    value: Annotated[str | None, typer.Argument(metavar="[JSON]", help="What to store; -: read it from stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Store what is in this file.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Store it even if it is not JSON.")] = False,
    ttl: Annotated[
        float | None, typer.Option(min=0.001, max=_LONGEST, help="Seconds to live; else as long as before.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Only if there is no such session.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store a session, after the update that is running for it."""
    data = _given(value, file)
    if not raw and not is_json(data):
        raise CommandError(USAGE, "this is not JSON; nothing was written (strings need quotes; --raw stores any bytes)")
    async with opened(url, create=True) as storage, Maintenance(storage) as maintenance:
        before = await read(storage, key)
        if not raw and before is not None and is_sealed(before.value):
            data = sealed(key, data)
        with says_it_waits(key):
            await maintenance.change(key, data, seen=unchanged(None) if new else None, ttl=ttl)
    stored(key, data, as_json)


def stored(key: str, data: bytes, as_json: bool) -> None:
    """Say that a session was stored."""
    tell(as_json, {"key": key, "stored": True, "size": len(data)}, f"stored {shown(key)} ({size_text(len(data))})")


def _given(value: str | None, file: Path | None) -> bytes:
    if (value is None) == (file is None):
        raise CommandError(USAGE, "give the JSON, or - for stdin, or --file")
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise CommandError(USAGE, f"{file} cannot be read: {error.strerror}") from None
    if value == "-":
        with interruptible():
            return sys.stdin.buffer.read()
    try:
        return (value or "").encode()
    except UnicodeEncodeError:
        raise CommandError(
            USAGE, "this is not valid Unicode; nothing was written (- reads any bytes from stdin)"
        ) from None
