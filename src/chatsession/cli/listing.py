"""`ls` and `count`: which sessions there are, and how many."""

from __future__ import annotations

import csv
import sys
from collections.abc import AsyncIterable, Callable
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypeAlias

import typer

from chatsession.cli._keys import readable
from chatsession.cli._options import AsJson, Prefix, Url
from chatsession.cli._running import USAGE, CommandError, command
from chatsession.cli._screen import emit, fitting, is_terminal, note, quoted, remaining, safe, say
from chatsession.cli._storage import opened, scope
from chatsession.cli._values import kind_of
from chatsession.conditions import Condition
from chatsession.maintenance import count, pages
from chatsession.storages import Record, Storage
from chatsession.storages.inspection import size_text


class Order(Enum):
    """What `ls` sorts by."""

    KEY = "key"
    SIZE = "size"
    EXPIRES = "expires"


class _Row(NamedTuple):
    key: str
    size: int
    expires_at: float | None
    kind: str


_Entry: TypeAlias = tuple[str, Record]

_ORDERS: dict[Order, Callable[[_Entry], Any]] = {
    Order.KEY: lambda entry: entry[0],
    Order.SIZE: lambda entry: -len(entry[1].value),
    Order.EXPIRES: lambda entry: (entry[1].expires_at is None, entry[1].expires_at),
}
_SPARE = 1000
"""How many entries beyond those that are listed are kept before they are sorted out."""

Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", "-w", metavar="PATH=VALUE", help="Only sessions with this value, as in step=ask or cart.0.size=30."
    ),
]


@command
async def ls(
    url: Url,
    prefix: Prefix = None,
    where: Where = None,
    sort: Annotated[
        Order | None, typer.Option(help="Sort all sessions: by key, largest first, or soonest to expire first.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=0, help="How many to list; 0: all.")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="Continue where an earlier page ended.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values, with a header.")] = False,
    as_json: AsJson = False,
) -> None:
    """List sessions with their sizes and how long they have to live."""
    if sort is not None and after is not None:
        raise CommandError(USAGE, "--after cannot be used with --sort, which reads all sessions")
    wanted = _condition(where)
    async with opened(url) as storage:
        covered = await scope(storage, prefix)
        show = _printer(storage, as_csv, as_json)
        if sort is not None:
            first, total = await _first(pages(storage, covered, wanted=wanted), _ORDERS[sort], limit)
            for entry in first:
                show(_row(*entry))
            if len(first) < total:
                note(f"there are {total - len(first):,} more: --limit 0 lists all")
            return
        cursor: str | None = None
        async for entries, following in pages(storage, covered, after, total=limit, wanted=wanted):
            for entry in entries:
                show(_row(*entry))
            cursor = following
    if cursor is not None:
        note(f"there are more: --after {quoted(cursor)}")


@command
async def count_(url: Url, prefix: Prefix = None, where: Where = None, as_json: AsJson = False) -> None:
    """Count sessions."""
    wanted = _condition(where)
    async with opened(url) as storage:
        covered = await scope(storage, prefix)
        if where:
            number = sum([len(entries) async for entries, _ in pages(storage, covered, wanted=wanted)])
        else:
            number = await count(storage, covered)
    if as_json:
        emit({"count": number})
    else:
        say(str(number))


def _condition(where: list[str] | None) -> Callable[[str, Record], bool] | None:
    try:
        conditions = [Condition.parse(text) for text in where or []]
    except ValueError as error:
        raise CommandError(USAGE, f"--where: {error}") from None
    if not conditions:
        return None

    def wanted(key: str, record: Record) -> bool:
        data = readable(key, record.value)
        return all(condition.holds(data) for condition in conditions)

    return wanted


async def _first(
    found: AsyncIterable[tuple[list[_Entry], str | None]], order: Callable[[_Entry], Any], limit: int
) -> tuple[list[_Entry], int]:
    """The first entries in an order, and how many there are; with a limit, no more are kept in memory."""
    kept: list[_Entry] = []
    total = 0
    async for entries, _ in found:
        total += len(entries)
        kept += entries
        if 0 < limit < len(kept) - _SPARE:
            kept.sort(key=order)
            del kept[limit:]
    kept.sort(key=order)
    return kept[: limit or None], total


def _row(key: str, record: Record) -> _Row:
    return _Row(key, len(record.value), record.expires_at, kind_of(record.value))


def _printer(storage: Storage, as_csv: bool, as_json: bool) -> Callable[[_Row], None]:
    if as_json:
        return lambda row: emit(row._asdict())
    if as_csv:
        return _csv_printer()
    say(f"{'SIZE':>10}  {'EXPIRES':<9}  {'KIND':<10}  KEY", "bold")
    now = storage.now()

    def show(row: _Row) -> None:
        start = f"{size_text(row.size):>10}  {remaining(row.expires_at, now):<9}  {row.kind:<10}  "
        say(start + fitting(safe(row.key), len(start)))

    return show


def _csv_printer() -> Callable[[_Row], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_Row._fields)
    escaped = is_terminal()
    return lambda row: writer.writerow(row._replace(key=safe(row.key)) if escaped else row)
