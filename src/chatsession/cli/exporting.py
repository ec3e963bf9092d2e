"""`export`: sessions into a file of JSON Lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from msgspec import UNSET

from chatsession.cli import _lines
from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._progress import progress, total_of
from chatsession.cli._running import USAGE, CommandError, command
from chatsession.cli._screen import counted, out, safe_json, tell
from chatsession.cli._storage import opened, scope
from chatsession.maintenance import pages


@command
async def export(
    url: Url,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; -: to stdout.")] = "-",
    prefix: Prefix = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a file that was cut off.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write sessions as JSON Lines while the bot runs; each as one commit left it."""
    async with opened(url) as storage:
        covered = await scope(storage, prefix)
        target, cursor, count = _open(file, covered.prefix, resume, force)
        try:
            with progress("exporting", await total_of(storage, covered)) as show:
                async for entries, following in pages(storage, covered, cursor):
                    now = storage.now()
                    for key, record in entries:
                        _write(target, _lines.session(key, record, now))
                    count += len(entries)
                    _write(target, _lines.end(count) if following is None else _lines.mark(following))
                    target.flush()
                    show(count)
        finally:
            if target is not sys.stdout.buffer:
                target.close()
    where = "" if file == "-" else f" to {file}"
    tell(as_json and file != "-", {"exported": count, "file": file}, f"exported {counted(count, 'session')}{where}")


def _open(file: str, prefix: str, resume: bool, force: bool) -> tuple[BinaryIO, str | None, int]:
    """The file, the cursor to continue with, and how many sessions are in the file already."""
    if file == "-":
        if resume:
            raise CommandError(USAGE, "--resume needs a file")
        _write(sys.stdout.buffer, _lines.head(prefix))
        return sys.stdout.buffer, None, 0
    path = Path(file)
    if resume and path.exists():
        return _open_again(path, prefix)
    if path.exists() and not force:
        raise CommandError(USAGE, f"{file} exists already; --resume continues it, --force overwrites it")
    try:
        # Sessions are private: only this user may read the file.
        opened_file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        raise CommandError(USAGE, f"{file} cannot be written: {error.strerror}") from None
    opened_file.write(_lines.head(prefix))
    return opened_file, None, 0


def _open_again(path: Path, prefix: str) -> tuple[BinaryIO, str | None, int]:
    """Cut off what follows the last mark, and continue there."""
    position = whole = count = unmarked = 0
    cursor: str | None = None
    file = path.open("r+b")
    try:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                break
            position += len(text)
            line = _line(path, number, text)
            if number == 1 and (line.chatsession is UNSET or line.prefix != prefix):
                raise CommandError(USAGE, f"{path} is not an export of these keys; see --prefix")
            if line.end is not UNSET:
                raise CommandError(0, f"{path} is complete, with {counted(line.end, 'session')}")
            unmarked += line.key is not UNSET
            if line.resume is not UNSET:
                cursor, count, unmarked = line.resume, count + unmarked, 0
            if line.resume is not UNSET or number == 1:
                whole = position
        file.seek(whole)
        file.truncate()
        if whole == 0:
            file.write(_lines.head(prefix))
    except BaseException:
        file.close()
        raise
    return file, cursor, count


def _line(path: Path, number: int, text: bytes) -> _lines.Line:
    try:
        return _lines.parsed(text)
    except ValueError as error:
        raise CommandError(USAGE, f"line {number} of {path}: {error}") from None


def _write(target: BinaryIO, line: bytes) -> None:
    if target is sys.stdout.buffer and out.is_terminal:
        line = safe_json(line.decode()).encode()
    target.write(line)
