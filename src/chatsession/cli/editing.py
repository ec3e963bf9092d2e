"""`edit`: a session in an editor, stored only if it has not changed meanwhile."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from chatsession.cli._keys import decrypted, is_sealed, sealed
from chatsession.cli._options import AsJson, Key, Url
from chatsession.cli._running import CONFLICT, MISSING, USAGE, CommandError, command
from chatsession.cli._screen import note, tell
from chatsession.cli._storage import opened, says_it_waits
from chatsession.cli._values import compact, kind_of, plain, pretty
from chatsession.cli.single import stored
from chatsession.contents import is_json
from chatsession.errors import SessionConflictError, shown
from chatsession.maintenance import Maintenance, read, unchanged
from chatsession.storages import Record, Storage


@command
async def edit(
    url: Url,
    key: Key,
    new: Annotated[bool, typer.Option("--new", help="Make the session if there is none.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Store the text even if it is not JSON.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change one session in $VISUAL or $EDITOR. What the bot stores meanwhile is never overwritten."""
    async with opened(url) as storage:
        record = await read(storage, key)
        if record is None and not new:
            raise CommandError(MISSING, f"there is no session {shown(key)}; --new makes one")
        before = _text(key, record)
        path = _draft(before)
        try:
            await _edit_until_stored(storage, key, record, before, path, raw or not _was_json(key, record), as_json)
        except BaseException:
            if path.exists() and path.read_bytes() != before:
                note(f"the edited text is kept in {path}", "yellow")
            else:
                path.unlink(missing_ok=True)
            raise
    path.unlink(missing_ok=True)


async def _edit_until_stored(
    storage: Storage, key: str, record: Record | None, before: bytes, path: Path, anything: bool, as_json: bool
) -> None:
    text = await asyncio.to_thread(_edited, path)  # the storage works on in the background
    if text == before:
        tell(as_json, {"key": key, "stored": False}, "nothing was changed")
        return
    if is_json(text):
        data = compact(text)
    elif anything:
        data = text.removesuffix(b"\n") if not before.endswith(b"\n") else text
    else:
        raise CommandError(USAGE, "this is not JSON; nothing was stored (--raw stores any text)")
    if record is not None and is_sealed(record.value):
        data = sealed(key, data)
    async with Maintenance(storage) as maintenance:
        try:
            with says_it_waits(key):
                await maintenance.change(key, data, seen=unchanged(record))
        except SessionConflictError:
            raise CommandError(
                CONFLICT,
                f"{shown(key)} changed while you edited it; nothing was overwritten. "
                "Look at it with get, and edit it again",
            ) from None
    stored(key, data, as_json)


def _text(key: str, record: Record | None) -> bytes:
    if record is None:
        return b"{}\n"
    value = decrypted(key, record.value)
    kind = kind_of(value)
    if kind in ("encrypted", "compressed", "framed", "binary"):
        raise CommandError(USAGE, f"{shown(key)} is {kind}, and cannot be edited as text; see get --raw, set --raw")
    if kind == "json":
        return pretty(value).encode() + b"\n"
    return plain(value)


def _was_json(key: str, record: Record | None) -> bool:
    return record is None or kind_of(decrypted(key, record.value)) == "json"


def _draft(text: bytes) -> Path:
    """A file that only this user can read."""
    number, name = tempfile.mkstemp(prefix="chatsession-", suffix=".json")
    with os.fdopen(number, "wb") as file:
        file.write(text)
    return Path(name)


def _edited(path: Path) -> bytes:
    words = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    if not words or shutil.which(words[0]) is None:
        raise CommandError(USAGE, "there is no editor; set EDITOR to the command of one")
    done = subprocess.run([*words, str(path)], check=False)
    if done.returncode:
        raise CommandError(USAGE, f"the editor ended with {done.returncode}; nothing was stored")
    return path.read_bytes()
