"""`import` and `copy`: sessions into a storage that may be in use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias

import typer
from msgspec import UNSET

from chatsession import copying
from chatsession.cli import _lines
from chatsession.cli._options import AsJson, DryRun, Prefix, Replace, Url
from chatsession.cli._progress import progress, resumable, total_of
from chatsession.cli._running import FOUND, USAGE, CommandError, command, interruptible
from chatsession.cli._screen import counted, emit, note
from chatsession.cli._storage import opened, scope
from chatsession.copying import CopyReport, Writer
from chatsession.storages import Storage
from chatsession.storages.inspection import size_text

_LINES = 500
_BYTES = 4_000_000
_LAST_LINE = 100
"""Bytes that have the last line of an export in them."""

_Batch: TypeAlias = tuple[int, list[_lines.Session], bool]
"""The number of the line that the sessions begin with, the sessions, and whether these were the last."""


@command
async def import_(
    url: Url,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="What export wrote; -: from stdin.")] = "-",
    prefix: Prefix = None,
    replace: Replace = False,
    from_line: Annotated[int, typer.Option("--from-line", min=1, help="Begin there, to continue after a stop.")] = 1,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int | None:
    """Read sessions from JSON Lines. If repeated, it writes only what is missing."""
    report = CopyReport()
    source = _source(file)
    complete, position = False, from_line
    try:
        async with (
            opened(url, create=not dry_run) as storage,
            Writer(storage, report, existing="replace" if replace else "keep", dry_run=dry_run) as writer,
        ):
            covered = await scope(storage, prefix)
            with progress("importing", _total(file)) as show:
                batches = _batches(source, from_line, storage)
                while (batch := _next(batches)) is not None:
                    position, sessions, ended = batch
                    await writer.put_all(each for each in sessions if prefix is None or covered.covers(each[0]))
                    complete = complete or ended
                    show(report.seen)
    except BaseException:
        note(f"stopped before all was imported; to continue: --from-line {position}", "yellow")
        raise
    finally:
        if source is not sys.stdin.buffer:
            source.close()
    report.done = True
    if not complete:
        note("the last line of an export is missing; the file may be cut off", "yellow")
    return _tell(report, "imported", dry_run, as_json, trouble=not complete)


@command
async def copy(
    url: Url,
    target_url: Annotated[str, typer.Argument(metavar="TARGET", help="Where to; a URL as well.")],
    prefix: Prefix = None,
    replace: Replace = False,
    resume_after: Annotated[str | None, typer.Option("--resume-after", help="Continue after a stop.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int | None:
    """Copy sessions to another storage; bots may run on both. If repeated, it writes only what is missing."""
    async with opened(url) as source, opened(target_url, create=not dry_run) as target:
        covered = await scope(source, prefix)
        with resumable("copying", resume_after, await total_of(source, covered)) as show:
            report = await copying.copy(
                source,
                target,
                prefix=prefix,
                dry_run=dry_run,
                resume_after=resume_after,
                progress=show,
                existing="replace" if replace else "keep",
            )
    return _tell(report, "copied", dry_run, as_json)


def _source(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise CommandError(USAGE, f"{file} cannot be read: {error.strerror}") from None


def _total(file: str) -> int | None:
    """How many sessions an export has, by its last line."""
    if file == "-":
        return None
    with Path(file).open("rb") as source:
        source.seek(max(os.path.getsize(file) - _LAST_LINE, 0))
        last = source.read().splitlines()[-1:]
    try:
        total = _lines.parsed(b"".join(last)).end
    except ValueError:
        return None
    return None if total is UNSET else total


def _batches(source: BinaryIO, from_line: int, target: Storage) -> Iterator[_Batch]:
    """Sessions that fit into memory."""
    batch: list[_lines.Session] = []
    held, begin, ended = 0, from_line, False
    for number, text in enumerate(source, 1):
        if number < from_line or not text.strip():
            continue
        try:
            line = _lines.parsed(text)
            session = _lines.session_of(line, target.now())
        except ValueError as error:
            yield begin, batch, False
            raise CommandError(USAGE, f"line {number}: {error}; all before it is imported") from None
        ended = ended or line.end is not UNSET
        if session is None:
            continue
        batch.append(session)
        held += len(text)
        if len(batch) >= _LINES or held >= _BYTES:
            yield begin, batch, ended
            batch, held, begin = [], 0, number + 1
    yield begin, batch, ended


def _next(batches: Iterator[_Batch]) -> _Batch | None:
    with interruptible():
        return next(batches, None)


def _tell(report: CopyReport, done: str, dry_run: bool, as_json: bool, trouble: bool = False) -> int | None:
    if as_json:
        emit(asdict(report))
    else:
        for why in report.troubles:
            note(why, "red")
        would = "would be " if dry_run else ""
        note(f"{would}{done}: {report.written:,} of {counted(report.seen, 'session')} ({size_text(report.bytes)})")
        for number, what in (
            (report.same, "already there"),
            (report.kept, "left as they are, since the target has other data (--replace overwrites them)"),
            (report.expired, "expired"),
            (report.failed, "failed"),
        ):
            if number:
                note(f"  {what}: {number:,}")
    return FOUND if report.failed or trouble else None
