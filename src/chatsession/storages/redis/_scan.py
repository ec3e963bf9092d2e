"""Enumerates keys page by page, on one server after another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast
from zlib import crc32

from chatsession.errors import StorageError
from chatsession.storages._shared.prefixes import is_text
from chatsession.storages.redis._call import Call
from chatsession.storages.redis._calls import Calls
from chatsession.storages.redis._names import RESERVED

_FEWEST = 100
_MOST = 999_999
"""A server examines at least this many keys at a time, because most may belong to others."""

_CURSOR = re.compile(r"[0-9]{1,5}:[0-9a-f]*:[0-9]{1,20}(:[0-9]{1,9}-[0-9]{1,10}-[0-9]{1,6})?")
"""The first slot of a server, its run, its own cursor, how many of the keys there were returned, and its COUNT."""
_BEGINNING = "0::0"


async def page(calls: Calls, prefix: str, cursor: str | None, limit: int) -> tuple[Sequence[str], str | None]:
    """Return one page of the session keys with a prefix, and the cursor of the next; see `Storage.scan_keys`.

    A cursor is valid for one run of one server. If another server has taken over, or the same one was restarted, its
    keys are enumerated again from the beginning, so that none is missed.

    A server returns more keys at a time than a small page holds. The next page then requests the same keys and skips
    those that were returned. If they have changed meanwhile, all are returned again: twice is better than never.
    """
    if not is_text(prefix):
        return [], None
    pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", prefix.encode()) + b"*"
    if not _CURSOR.fullmatch(cursor or _BEGINNING):
        raise StorageError("this is not a cursor of an enumeration in Redis")
    start, run, position, *given = (cursor or _BEGINNING).split(":")
    while True:
        part = await _part_at(int(start), calls)
        if part is None:
            return [], None
        slot, place, following = part
        # The same COUNT as before, since the server would return another part of its keys for another one.
        count = int(given[0].rpartition("-")[2]) if given else min(max(limit, _FEWEST), _MOST)
        keys, this_run, behind = await _scan(calls, place, pattern, run, position, count)
        keys.sort()
        seen = _seen(keys, given[0]) if given and run == this_run else 0
        if seen is not None and seen + limit < len(keys):
            here = "0" if run not in ("", this_run) else position
            return keys[seen : seen + limit], f"{slot}:{this_run}:{here}:{_mark(keys[: seen + limit])}-{count}"
        keys, given = keys[seen or 0 :], []
        after = None if following is None else f"{following}::0"
        if behind != "0":
            after = f"{slot}:{this_run}:{behind}"
        if keys or after is None:
            return keys, after
        start, run, position = after.split(":")


def _mark(keys: Sequence[str]) -> str:
    return f"{len(keys)}-{crc32(chr(0).join(keys).encode())}"


def _seen(keys: Sequence[str], mark: str) -> int | None:
    """Return how many of these keys were returned already; `None`: the keys have changed."""
    count = int(mark.partition("-")[0])
    return count if _mark(keys[:count]) == mark.rpartition("-")[0] else None


async def _part_at(start: int, calls: Calls) -> tuple[int, str, int | None] | None:
    """Return the first server whose slots begin at `start` or later, and the first slot of the server after it."""
    await calls.locate()
    parts = [(slot, place) for slot, place in calls.servers.places() if slot >= start]
    if not parts:
        return None
    return *parts[0], parts[1][0] if len(parts) > 1 else None


async def _scan(
    calls: Calls, place: str, pattern: bytes, run: str, position: str, count: int
) -> tuple[list[str], str, str]:
    info = Call(("INFO", "server"), place=place)
    scan = _command(place, pattern, position, count)
    await calls.run([info, scan])
    found = re.search(r"run_id:(\w+)", str(info.reply()))
    this_run = found[1] if found else ""
    if run not in ("", this_run):
        scan = _command(place, pattern, "0", count)
        await calls.run([scan])
    following, names = cast("tuple[bytes, list[bytes]]", scan.reply())
    return _keys(names), this_run, following.decode()


def _command(place: str, pattern: bytes, position: str, count: int) -> Call:
    return Call(("SCAN", position, "MATCH", pattern, "COUNT", count, "TYPE", "string"), place=place)


def _keys(names: Sequence[bytes]) -> list[str]:
    keys: list[str] = []
    for name in dict.fromkeys(names):
        if name.startswith(RESERVED):
            continue
        try:
            keys.append(name.decode())
        except UnicodeDecodeError:
            continue  # session keys are text
    return keys
