"""`ls`: which sessions there are."""

from __future__ import annotations

from typing import Annotated

import typer

from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._running import command, opened
from chatsession.cli._screen import emit, note, quoted, remaining, safe, say, size
from chatsession.cli._values import kind_of
from chatsession.maintenance import pages
from chatsession.storages import Record


@command
async def ls(
    url: Url,
    prefix: Prefix = "",
    limit: Annotated[int, typer.Option("--limit", "-l", min=0, help="How many to list; 0: all.")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="Go on where an earlier page ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List sessions with their sizes and how long they have to live."""
    cursor: str | None = None
    async with opened(url) as storage:
        if not as_json:
            say(f"{'SIZE':>9}  {'EXPIRES':<9}  {'KIND':<10}  KEY", "bold")
        async for entries, following in pages(storage, prefix, after, total=limit):
            now = storage.now()
            for key, record in entries:
                _show(key, record, now, as_json)
            cursor = following
    if cursor is not None:
        note(f"there are more: --after {quoted(cursor)}")


def _show(key: str, record: Record, now: float, as_json: bool) -> None:
    kind = kind_of(record.value)
    if as_json:
        emit({"key": key, "size": len(record.value), "expires_at": record.expires_at, "kind": kind})
        return
    say(f"{size(len(record.value)):>9}  {remaining(record.expires_at, now):<9}  {kind:<10}  {safe(key)}")
