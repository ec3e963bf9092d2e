"""Translates items of a batch into arguments of a script, and its replies into records and outcomes."""

from __future__ import annotations

from hashlib import sha1
from typing import cast

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
    Expect,
    Lease,
    Outcome,
    Record,
    Version,
)
from chatsession.storages.redis._connection import Word
from chatsession.storages.redis._errors import of_key

_ACTIONS = {PUT: "P", DELETE: "D", TOUCH: "T", KEEP: "K"}
LARGE = 2048
"""Bytes of a value, as in `locks.lua`. From this size on it is sent by a command of its own, because Lua hashes every
byte of a string that it gets."""
_LONGEST = 1 << 50
"""Milliseconds of the longest time to live; Redis counts them from 1970 in 63 bits."""
_FIRST_INEXACT = 1 << 53
"""Numbers in Lua are floats."""


pack = msgspec.msgpack.Encoder().encode
"""Packs many arguments into one, which is faster than sending them one by one."""


def words_of(change: Change, sent_to: str) -> tuple[Word | bool | tuple[str], ...]:
    """Return the arguments of a change, except for values.

    Args:
        change: what to do.
        sent_to: the key to which a large value is sent; empty: it is an argument.
    """
    ttl, lease = change.ttl, change.lease
    return (
        "P" if change.action is PUT else _ACTIONS[change.action],
        _expected(change.expect, lease),
        "" if ttl is None else milliseconds(ttl),
        "" if lease is None else _known(lease.token),
        change.unlock,
        "" if change.expect_until is None else int(change.expect_until * 1000 + 0.5),
        sent_to,
    )


def expected_value(expect: Version | Expect | None) -> bytes:
    """Return the value that must be stored, where it is sent to be compared: a small one."""
    return expect.value if isinstance(expect, StoredValue) and len(expect.value) < LARGE else b""


def _expected(expect: Version | Expect | None, lease: Lease | None) -> Word | bool | tuple[str]:
    if isinstance(expect, StoredValue):
        if len(expect.value) < LARGE:
            return ""
        if lease is not None and expect.mark and expect.token == lease.token:
            return expect.mark
    if expect is None:
        return False
    return True if expect is ANYTHING else (str(expect),)


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


def milliseconds(seconds: float) -> int:
    """Convert a time to live or the length of a lease."""
    return max(1, int(min(seconds * 1000, _LONGEST)))
