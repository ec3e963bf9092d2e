"""Enumerates keys page by page, over all servers that have some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from chatsession.errors import StorageError
from chatsession.storages.redis._calls import Call, Calls
from chatsession.storages.redis._names import RESERVED
from chatsession.storages.redis._servers import Servers

_FEWEST = 100
"""A server looks through at least so many keys at a time, however few are wanted: most may be others'."""

_CURSOR = re.compile(r"[0-9]{1,5}:[0-9a-f]*:[0-9]{1,20}")
"""The first slot of a server, its run, and its own cursor."""
_BEGINNING = "0::0"


async def page(
    calls: Calls, servers: Servers, prefix: str, cursor: str | None, limit: int
) -> tuple[Sequence[str], str | None]:
    """One page of the session keys that begin with `prefix`, and where the next begins; see `Storage.scan_keys`.

    A cursor holds for one run of one server. Where another server has taken over meanwhile, or the same one was
    started anew, its keys are gone through again from the beginning, so that none is missed.
    """
    try:
        pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", prefix.encode()) + b"*"
    except UnicodeEncodeError:
        return [], None
    if not _CURSOR.fullmatch(cursor or _BEGINNING):
        raise StorageError("this is no cursor of an enumeration in Redis")
    start, run, position = (cursor or _BEGINNING).split(":")
    while True:
        part = await _part_at(int(start), calls, servers)
        if part is None:
            return [], None
        slot, place, following = part
        keys, run, position = await _scan(calls, place, pattern, run, position, max(limit, _FEWEST))
        after = None if following is None else f"{following}::0"
        if position != "0":
            after = f"{slot}:{run}:{position}"
        if keys or after is None:
            return keys, after
        start, run, position = after.split(":")


async def _part_at(start: int, calls: Calls, servers: Servers) -> tuple[int, str, int | None] | None:
    """The first server whose slots begin at `start` or later, and where those of the one after it begin."""
    await calls.locate()
    parts = [(slot, place) for slot, place in servers.places() if slot >= start]
    if not parts:
        return None
    return *parts[0], parts[1][0] if len(parts) > 1 else None


async def _scan(
    calls: Calls, place: str, pattern: bytes, run: str, position: str, count: int
) -> tuple[list[str], str, str]:
    info = Call(("INFO", "server"), place=place)
    scan = _command(place, pattern, position, count)
    await calls.run([info, scan])
    found = re.search(r"run_id:(\w+)", str(_reply(info)))
    this_run = found[1] if found else ""
    if run not in ("", this_run):
        scan = _command(place, pattern, "0", count)
        await calls.run([scan])
    following, names = cast("tuple[bytes, list[bytes]]", _reply(scan))
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
            continue  # no session has such a key
    return keys


def _reply(call: Call) -> object:
    if isinstance(call.reply, StorageError):
        raise call.reply
    return call.reply
