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
from chatsession.storages.postgres._keys import stored_key

Item = TypeVar("Item", str, Change, Lease, LockRequest)

LONGEST_TIME = 1e10
"""Seconds; PostgreSQL's calendar ends in the year 294276."""

# Arrays travel as texts, but for those of bytes: asyncpg looks up base classes of each element of a list, which takes
# longer than all the rest of a batch.
TEXTS = "text::text[]"
INTEGERS = "text::bigint[]"
FLOATS = "text::float8[]"
_LOCK = f"{{lock}}($1::{TEXTS}, $2::{TEXTS}, $3::{FLOATS}, $4)"
_COMMIT = (
    f"{{commit}}($1, $2::{TEXTS}, $3, $4::{TEXTS}, $5, $6::{INTEGERS}, $7::{FLOATS}, $8::{INTEGERS}, "
    f"$9::text::boolean[], $10::{FLOATS})"
)

_ANY_NUMBER = -1
_NO_SUCH_NUMBER = 0
_REFUSED = {-1: Refused.CONFLICT, -2: Refused.LEASE_LOST}


class Batch(Generic[Item]):
    """Items whose keys can be stored, in the order of their stored keys, which is the order in which rows are locked.

    Args:
        items: in any order.
    """

    __slots__ = ("items", "keys", "refused", "whole_keys")

    def __init__(self, items: Sequence[Item]) -> None:
        self.whole_keys: dict[str, bytes] = {}
        """By stored key, which is a digest of the key."""
        self.refused: dict[str, SessionKeyError] = {}
        """By key."""
        stored: list[tuple[str, int]] = []
        for place, item in enumerate(items):
            key = item if isinstance(item, str) else item.key
            try:
                text, whole = stored_key(key)
            except SessionKeyError as error:
                self.refused[key] = error
                continue
            stored.append((text, place))
            if whole is not None:
                self.whole_keys[text] = whole
        stored.sort()
        self.keys: list[str] = [text for text, _ in stored]
        """Stored keys."""
        self.items: list[Item] = [items[place] for _, place in stored]

    def by_stored_key(self) -> dict[str, Item]:
        """The items that rows of the database belong to."""
        return dict(zip(self.keys, self.items, strict=True))


def lock_call(batch: Batch[LockRequest]) -> tuple[str, Sequence[object]]:
    """The function that locks a batch, with placeholders for its arguments, and all of these but the last."""
    waiters = [request.waiter for request in batch.items]
    seconds = [min(request.seconds, LONGEST_TIME) for request in batch.items]
    if len(waiters) == 1:
        return "{lock_one}($1, $2, $3, $4)", (batch.keys[0], waiters[0], seconds[0])
    return _LOCK, (texts(batch.keys), texts(waiters), numbers(seconds))


def commit_call(batch: Batch[Change]) -> tuple[str, Sequence[object]]:
    """The expression that makes a batch of changes, and its arguments after the name of the batch."""
    if len(batch.items) == 1:
        change, whole_key = batch.items[0], batch.whole_keys.get(batch.keys[0])
        if change.action is PUT and change.lease is not None and change.expect is not ANYTHING:
            expect, ttl, token = _expected(change.expect), _seconds(change.ttl), number(change.lease.token)
            arguments = batch.keys[0], whole_key, change.value, expect, ttl, token, change.unlock
            return "ARRAY[{commit_one}($1, $2, $3, $4, $5, $6, $7, $8, $9)]", (*arguments, change.expect_until)
    return _COMMIT, _commit_arrays(batch)


def _commit_arrays(batch: Batch[Change]) -> Sequence[object]:
    changes = batch.items
    return (
        texts(batch.keys),
        [batch.whole_keys.get(key) for key in batch.keys] if batch.whole_keys else None,
        texts(["put" if change.action is PUT else change.action.value for change in changes]),
        [change.value if change.action is PUT else None for change in changes],
        numbers([_expected(change.expect) for change in changes]),
        numbers([_seconds(change.ttl) for change in changes]),
        numbers([None if change.lease is None else number(change.lease.token) for change in changes]),
        numbers([change.unlock for change in changes]),
        numbers([change.expect_until for change in changes]),
    )


def texts(values: Sequence[str]) -> str:
    """The text of an array of texts, as PostgreSQL reads it."""
    return "{" + ",".join(['"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in values]) + "}"


def numbers(values: Sequence[float | None]) -> str | None:
    """The text of an array of numbers or booleans; `None` if all of them are `NULL`, which is shorter."""
    if all(value is None for value in values):
        return None
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


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
