"""Translates items of a batch into arguments of a script, and its replies into records and outcomes."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import TypeAlias, cast

import msgspec

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
from chatsession.storages.redis._connection import LARGE, Word
from chatsession.storages.redis._errors import of_key

_ACTIONS = {PUT: "P", DELETE: "D", TOUCH: "T", KEEP: "K"}
_LONGEST = 1 << 50
"""Milliseconds of the longest time to live; Redis counts them from 1970 in 63 bits."""
_FIRST_INEXACT = 1 << 53
"""Numbers in Lua are floats."""


Expected: TypeAlias = Word | tuple[str]
"""What must be stored, as `commit.lua` takes it."""

pack = msgspec.msgpack.Encoder().encode
"""Packs many arguments into one, which is faster than sending them one by one."""


def words_of(change: Change, expected: Expected, sent_to: str) -> tuple[Word | Expected, ...]:
    """Return the arguments of a change, except for values.

    Args:
        change: what to do.
        expected: what must be stored; see `expectation`.
        sent_to: the key to which a large value is sent; empty: it is an argument.
    """
    ttl, lease = change.ttl, change.lease
    return (
        "P" if change.action is PUT else _ACTIONS[change.action],
        expected,
        "" if ttl is None else milliseconds(ttl),
        "" if lease is None else _known(lease.token),
        change.unlock,
        "" if change.expect_until is None else int(change.expect_until * 1000 + 0.5),
        sent_to,
    )


def expectation(change: Change) -> tuple[Expected, bytes]:
    """Return what must be stored: a word for it, and the value itself where it is sent to be compared."""
    expect, lease = change.expect, change.lease
    if isinstance(expect, StoredValue):
        if len(expect.value) < LARGE:
            return "", expect.value
        if lease is not None and expect.mark and expect.token == lease.token:
            return expect.mark, b""
    if expect is None:
        return False, b""
    return True if expect is ANYTHING else (str(expect),), b""


def _known(token: int) -> int:
    return token if 0 < token < _FIRST_INEXACT else 0  # no lock has the token 0


def outcome_of(change: Change, reply: object) -> Outcome:
    """Return the outcome of a change from the reply of the script."""
    if reply == 1:
        if change.action is PUT:
            return Committed(StoredValue(change.value))
        return Committed(None if change.action is DELETE else change.expect)
    if type(reply) is int and reply > 1 and change.lease is not None:
        return Committed(StoredValue(change.value, change.lease.token, reply))
    if reply == 0:
        return CONFLICT
    if reply == -1:
        return LEASE_LOST
    if isinstance(reply, Exception):
        return of_key(reply, change.key)
    version = cast("bytes", reply)
    return Committed(None if version == b"-" else version.decode())


def record_of(value: bytes, expires_at: int, token: int = 0, mark: int = 0) -> Record:
    """Return the record of a value.

    Args:
        value: what is stored.
        expires_at: when it expires, in milliseconds (-1: never).
        token: of the lease under which it was read.
        mark: of the copy that the server keeps of it under this lease; 0: there is none.
    """
    return Record(value, StoredValue(value, token, mark), None if expires_at < 0 else expires_at / 1000)


class StoredValue(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A version: the value that was stored. Its digest stands for it where the value itself is not at hand.

    Under the lease by which a large value was read or written, the mark of the server's copy stands for it.
    """

    value: bytes
    token: int = 0
    mark: int = 0

    def __str__(self) -> str:
        return sha1(self.value, usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:  # the same whether it was read under a lease or not
        return f"StoredValue({self})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(str(self))


@lru_cache(100)
def milliseconds(seconds: float) -> str:
    """Convert a time to live or the length of a lease, to text because the server would make text of a number."""
    return str(max(1, int(min(seconds * 1000, _LONGEST))))
