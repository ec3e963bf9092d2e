"""From items of a batch to the words of a script, and from its answers to what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import cast

import msgspec

from chatsession.errors import SessionError
from chatsession.storages.base import (
    ANYTHING,
    CONFLICT,
    DELETE,
    KEEP,
    LEASE_LOST,
    PUT,
    TOUCH,
    Change,
    Committed,
    Outcome,
    Record,
)
from chatsession.storages.redis._connection import Word
from chatsession.storages.redis._errors import of_key

_ACTIONS = {PUT: "P", DELETE: "D", TOUCH: "T", KEEP: "K"}
_BYTES_PER_SCRIPT = 1 << 18
_LONGEST = 1 << 50
"""Milliseconds of the longest time to live; Redis counts them from 1970 in 63 bits."""
_FIRST_INEXACT = 1 << 53
"""The numbers of Lua are floats."""


def portions_of(names: Sequence[bytes | SessionError], most: int, sizes: Sequence[int] | None) -> list[Sequence[int]]:
    """The numbers of all good names, as many together as one script may handle."""
    numbers: Sequence[int] = range(len(names))
    if any(type(name) is not bytes for name in names):
        numbers = [number for number in numbers if not isinstance(names[number], SessionError)]
    if sizes is not None and sum(sizes) > _BYTES_PER_SCRIPT:
        return _portions_by_size(numbers, most, sizes)
    return [numbers[start : start + most] for start in range(0, len(numbers), most)]


def _portions_by_size(numbers: Sequence[int], most: int, sizes: Sequence[int]) -> list[Sequence[int]]:
    portions: list[list[int]] = []
    free = 0
    for number in numbers:
        if not portions or len(portions[-1]) == most or sizes[number] > free:
            portions.append([])
            free = _BYTES_PER_SCRIPT
        portions[-1].append(number)
        free -= sizes[number]
    return list[Sequence[int]](portions)


pack = msgspec.msgpack.Encoder().encode
"""Many words as one: the server takes them apart faster than they would be put into a command one by one."""


def words_of(change: Change) -> tuple[Word | bool, ...]:
    """What the script is told about a change, besides its value."""
    expect, ttl, lease = change.expect, change.ttl, change.lease
    return (
        "P" if change.action is PUT else _ACTIONS[change.action],
        "-" if expect is None else "*" if expect is ANYTHING else str(expect),
        "" if ttl is None else milliseconds(ttl),
        "" if lease is None else _known(lease.token),
        change.unlock,
        "" if change.expect_until is None else int(change.expect_until * 1000 + 0.5),
    )


def _known(token: int) -> int:
    return token if 0 < token < _FIRST_INEXACT else 0  # which no lock has


def outcome_of(change: Change, reply: object) -> Outcome:
    """What the script says became of a change."""
    if reply == 1:
        if change.action is PUT:
            return Committed(Digest(change.value))
        return Committed(None if change.action is DELETE else change.expect)
    if reply == 0:
        return CONFLICT
    if reply == -1:
        return LEASE_LOST
    if isinstance(reply, Exception):
        return of_key(reply, change.key)
    version = cast("bytes", reply)
    return Committed(None if version == b"-" else version.decode())


def record_of(key: str, value: bytes | Exception | None, expires_at: int) -> Record | SessionError | None:
    """What the script says is stored, until when in milliseconds (-1: for ever)."""
    if value is None:
        return None
    if isinstance(value, Exception):
        return of_key(value, key)
    return Record(value, Digest(value), None if expires_at < 0 else expires_at / 1000)


class Digest(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What is stored is its own version, by a digest that the scripts make, too; made here only if it is asked for."""

    value: bytes

    def __str__(self) -> str:
        return sha1(self.value, usedforsecurity=False).hexdigest()

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(str(self))


def milliseconds(seconds: float) -> int:
    """A time to live, or the length of a lease, as Redis wants it."""
    return max(1, int(min(seconds * 1000, _LONGEST)))
