"""Converts batches into the arrays that the SQL functions take, and their rows into records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar, cast

from chatsession.errors import SessionKeyError
from chatsession.storages.base import (
    ANYTHING,
    PUT,
    Change,
    Committed,
    Lease,
    LockRequest,
    Outcome,
    Record,
    Refused,
)
from chatsession.storages.postgres._keys import StoredKey, stored_key

Item = TypeVar("Item", str, Change, Lease, LockRequest)

Value = TypeVar("Value")

LONGEST_TIME = 1e10
"""Seconds; PostgreSQL's calendar ends in the year 294276."""

_ANY_NUMBER = -1
_NO_SUCH_NUMBER = 0
_REFUSED = {-1: Refused.CONFLICT, -2: Refused.LEASE_LOST}


class Batch(Generic[Item]):
    """Items whose keys can be stored, in the order of their stored keys, which is the order in which rows are locked.

    Args:
        items: in the caller's order; `places` and `refused` refer to it.
    """

    __slots__ = ("items", "keys", "place_of", "places", "refused", "whole_keys")

    def __init__(self, items: Sequence[Item]) -> None:
        self.refused: dict[int, SessionKeyError] = {}
        stored: list[tuple[StoredKey, int]] = []
        for place, item in enumerate(items):
            try:
                stored.append((stored_key(item if isinstance(item, str) else item.key), place))
            except SessionKeyError as error:
                self.refused[place] = error
        stored.sort()
        self.keys = [key.text for key, _ in stored]
        self.whole_keys = [key.whole for key, _ in stored]
        self.places = [place for _, place in stored]
        self.items = [items[place] for place in self.places]
        self.place_of = dict(zip(self.keys, self.places, strict=True))


def lock_call(batch: Batch[LockRequest]) -> tuple[str, Sequence[object]]:
    """The function that locks a batch, and its first arguments."""
    waiters = [request.waiter for request in batch.items]
    seconds = [min(request.seconds, LONGEST_TIME) for request in batch.items]
    if len(waiters) == 1:
        return "{lock_one}", (batch.keys[0], waiters[0], seconds[0])
    return "{lock}", (batch.keys, waiters, seconds)


def commit_call(batch: Batch[Change]) -> tuple[str, Sequence[object]]:
    """The expression that makes a batch of changes, and its arguments after the name of the batch."""
    if len(batch.items) == 1:
        change, whole_key = batch.items[0], batch.whole_keys[0]
        if change.action is PUT and change.lease is not None and change.expect is not ANYTHING:
            expect, ttl, token = _expected(change.expect), _seconds(change.ttl), number(change.lease.token)
            arguments = batch.keys[0], whole_key, change.value, expect, ttl, token, change.unlock
            return "ARRAY[{commit_one}($1, $2, $3, $4, $5, $6, $7, $8, $9)]", (*arguments, change.expect_until)
    return "{commit}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", _commit_arrays(batch)


def _commit_arrays(batch: Batch[Change]) -> Sequence[object]:
    changes = batch.items
    return (
        batch.keys,
        _or_null(batch.whole_keys),
        [change.action.value for change in changes],
        _or_null([change.value if change.action is PUT else None for change in changes]),
        [_expected(change.expect) for change in changes],
        _or_null([_seconds(change.ttl) for change in changes]),
        _or_null([None if change.lease is None else number(change.lease.token) for change in changes]),
        [change.unlock for change in changes],
        _or_null([change.expect_until for change in changes]),
    )


def outcome(code: int) -> Outcome:
    """The meaning of a number that `commit` returned."""
    if code > 0:
        return Committed(code)
    return _REFUSED.get(code) or Committed(None)


def record(value: object, version: object, expires_at: object) -> Record | None:
    """Make a record from columns, which are all `NULL` where there is no row."""
    return None if value is None else Record(cast("bytes", value), version, cast("float | None", expires_at))


def number(value: object) -> int:
    """A version or token that PostgreSQL can take; a foreign one becomes a number that is never used."""
    return value if isinstance(value, int) and 0 < value < 2**63 else _NO_SUCH_NUMBER


def _or_null(values: list[Value | None]) -> list[Value | None] | None:
    """Replace an array of only `NULL`s by one `NULL`, which is shorter to send."""
    return values if any(value is not None for value in values) else None


def _expected(expect: object) -> int | None:
    if expect is ANYTHING:
        return _ANY_NUMBER
    return None if expect is None else number(expect)


def _seconds(ttl: float | None) -> float | None:
    return None if ttl is None else min(ttl, LONGEST_TIME)


def parts(changes: Sequence[Change], most: int) -> Iterable[Sequence[Change]]:
    """Split a batch into parts of about `most` bytes of values; nearly always that is one part."""
    start = size = 0
    for end, change in enumerate(changes):
        size += len(change.value)
        if size > most and end > start:
            yield changes[start:end]
            start, size = end, len(change.value)
    yield changes[start:] if start else changes
