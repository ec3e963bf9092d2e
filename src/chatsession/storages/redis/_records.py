"""Translates items of a batch into arguments of a script, and its replies into records and outcomes."""

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
"""Numbers in Lua are floats."""


def portions_of(names: Sequence[bytes | SessionError], most: int, sizes: Sequence[int] | None) -> list[Sequence[int]]:
    """Return the indexes of all valid names, in groups that one script call may handle."""
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
"""Packs many arguments into one, which is faster than sending them one by one."""


def words_of(change: Change) -> tuple[Word | bool, ...]:
    """Return the arguments of a change, except for its value."""
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
    return token if 0 < token < _FIRST_INEXACT else 0  # no lock has the token 0


def outcome_of(change: Change, reply: object) -> Outcome:
    """Return the outcome of a change from the reply of the script."""
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
    """Return the record from the reply of a script; `expires_at` is in milliseconds (-1: never)."""
    if value is None:
        return None
    if isinstance(value, Exception):
        return of_key(value, key)
    return Record(value, Digest(value), None if expires_at < 0 else expires_at / 1000)


class Digest(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A version: the digest of the stored value, which scripts compute as well; computed when it is needed."""

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
    """Convert a time to live or the length of a lease."""
    return max(1, int(min(seconds * 1000, _LONGEST)))
