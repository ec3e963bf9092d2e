"""The document of a session, and the record that is made of it.

A document has the key. If a session is stored, it also has `value`, `version` and perhaps `expires_at`. It has `lock`
(`token`, `waiter`, `since`, `until`) while the key is locked, `queue` and `waited` while others wait for it, the newest
`token`, the time when the key was last locked or deleted (`touched_at`), and the last `commits`. A document without a
session is `idle`. MongoDB deletes idle documents an hour after they were touched, and others an hour after they
expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Literal, TypeAlias, TypeGuard, cast

import msgspec
from bson import Int64, ObjectId
from bson import encode as to_bson
from bson.errors import BSONError
from msgspec import Struct

from chatsession.errors import SessionKeyError, SessionTooLargeError, StorageError
from chatsession.storages.base import Record

Document: TypeAlias = Mapping[str, Any]
"""As pymongo gives it."""
LayoutName: TypeAlias = Literal["chatsession", "grammy"]

LONGEST_TIME = 2e11
"""Seconds; the calendar of Python's `datetime` ends with the year 9999."""
STORED_FIELDS = {"value": True, "version": True, "expires_at": True, "now": "$$NOW"}
"""The fields that make a record."""
_LONGEST_KEY = 4 * 1024 * 1024
_LARGEST_VALUE = 16 * 1024 * 1024 - 64 * 1024
"""Bytes. A document, with its key, its lock and its queue, has at most 16 MiB."""
_DEEPEST = 90
"""Levels. MongoDB stores documents of at most 100 levels."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Layout(Struct, frozen=True):
    """A form of the documents."""

    key: str
    """The field with the session's key; it has a unique index."""
    has_versions: bool
    """Whether commits write a version. When grammY writes a value, it would leave a version as it is."""

    def version(self, commit: ObjectId, value: bytes) -> object:
        """The version of the value that a commit has stored."""
        return commit if self.has_versions else value


_LAYOUTS = {
    "chatsession": Layout("_id", has_versions=True),
    "grammy": Layout("key", has_versions=False),
}


def layout_named(name: str) -> Layout:
    """The layout with a name. Raises `StorageError` if there is none."""
    layout = _LAYOUTS.get(name)
    if layout is None:
        raise StorageError(f"the layout of a collection is one of {', '.join(_LAYOUTS)}")
    return layout


_from_json = msgspec.json.Decoder().decode


def _plain(value: object) -> object:
    if isinstance(value, Int64):
        return int(value)
    raise TypeError(f"a {type(value).__name__}")


_to_json = msgspec.json.Encoder(enc_hook=_plain).encode


def check_key(key: str) -> int:
    """The length of a key in bytes. Raises `SessionKeyError` if it cannot be stored."""
    if not key:
        raise SessionKeyError("an empty string cannot be a session key", key=key)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise SessionKeyError(
            "it is not valid Unicode (half of a surrogate pair), so MongoDB cannot store it", key=key
        ) from None
    if size > _LONGEST_KEY:
        raise SessionKeyError(f"it has {size:,} bytes, but a key in MongoDB has at most {_LONGEST_KEY:,}", key=key)
    return size


def stored_value(key: str, value: bytes) -> tuple[object, int]:
    """The value as it is stored, and its size: as BSON if that gives the same bytes again, otherwise as bytes.

    Stored as bytes are values that are not JSON (encrypted, compressed), that msgspec would format in another way, or
    that have a number beyond 64 bits, NUL in a field's name, or too many levels.

    Raises:
        SessionTooLargeError: it does not fit into a document.
    """
    if len(value) + len(key) > _LARGEST_VALUE:  # BSON is seldom smaller than JSON
        raise too_large(key, len(value))
    try:
        decoded = _from_json(value)
        if _to_json(decoded) == value and _is_flat(value, decoded):
            size = len(to_bson({"value": decoded}))
            if size + len(key) <= _LARGEST_VALUE:
                return decoded, size
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError, BSONError):
        pass
    return value, len(value)


def value_of(key: str, stored: object, *, is_foreign: bool = False) -> bytes:
    """The bytes of a stored value. Raises `StorageError` if it is not JSON, because another program wrote it.

    Args:
        key: of the session.
        stored: the value in the document.
        is_foreign: another program wrote it. Dates, and other values that would come back changed, are refused.
    """
    if isinstance(stored, bytes):
        return stored
    try:
        if is_foreign:
            _check_plain(stored)
        return _to_json(stored)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StorageError(
            f"its document in MongoDB has a value that JSON cannot hold ({error}); change or delete it there", key=key
        ) from None


def record_in(key: str, document: Document | None) -> Record | StorageError | None:
    """The unexpired record in a document. `None`: there is none."""
    if document is None or "value" not in document or is_over(document):
        return None
    try:
        return record_of(key, document)
    except StorageError as error:
        return error


def record_of(key: str, document: Document) -> Record:
    """Make the record of a document with a value.

    Raises:
        StorageError: another program stored a value that is not JSON, or an `expires_at` that is not a date.
    """
    expires_at = document.get("expires_at")
    if expires_at is not None and not isinstance(expires_at, datetime):
        raise StorageError("its document in MongoDB has an expires_at that is not a date; remove it there", key=key)
    version = version_in(key, document)
    value = version if isinstance(version, bytes) else value_of(key, document["value"])
    return Record(value, version, seconds_of(expires_at))


def version_in(key: str, document: Document) -> object:
    """The version of a document with a value. If another program wrote it, the value is its version.

    Raises:
        StorageError: as `record_of`.
    """
    version = document.get("version")
    if isinstance(version, ObjectId):
        return version
    return value_of(key, document["value"], is_foreign=True)


def lock_in(document: Document | None) -> Document:
    """The lock in a document. Empty if there is none, or if the field holds something else."""
    lock = document.get("lock") if document else None
    return cast("Document", lock) if isinstance(lock, dict) else {}


def seconds_locked(document: Document) -> float:
    """How long the lock in a document lasts from when the server read it. 0 if there is none."""
    until = lock_in(document).get("until")
    return (until - document["now"]).total_seconds() if isinstance(until, datetime) else 0.0


def is_whole(document: Document | None) -> TypeGuard[Document]:
    """Whether an update's answer has all fields that were asked for.

    If pymongo repeated the update, and the server noticed that it had been made, the answer is the document after the
    first try, without the server's time and other computed fields.
    """
    return document is not None and "now" in document


def is_over(document: Document) -> bool:
    """Whether the session in a document had expired, by the server's clock, when the server read it."""
    expires_at = document.get("expires_at")
    return isinstance(expires_at, datetime) and expires_at <= document["now"]


def seconds_of(time: object) -> float | None:
    """The Unix time of a date in a document."""
    return (time.replace(tzinfo=UTC) - _EPOCH) / timedelta(seconds=1) if isinstance(time, datetime) else None


def date_of(seconds: float) -> datetime:
    """The date in a document for a Unix time."""
    return _EPOCH + timedelta(seconds=min(max(seconds, 0.0), LONGEST_TIME))


def _check_plain(value: object) -> None:
    """Raise an error if a value has parts that are not JSON."""
    if isinstance(value, dict):
        for each in cast("dict[str, object]", value).values():
            _check_plain(each)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            _check_plain(each)
    elif isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"the number {value}")
    elif value is not None and not isinstance(value, str | int):
        raise TypeError(f"a {type(value).__name__}")


def _is_flat(value: bytes, decoded: object) -> bool:
    return value.count(b"[") + value.count(b"{") <= _DEEPEST or _depth(decoded) <= _DEEPEST


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, cast("dict[str, object]", value).values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, cast("list[object]", value)), default=0)
    return 0


def too_large(key: str, size: int) -> SessionTooLargeError:
    """The error for a session that does not fit into a document."""
    return SessionTooLargeError(
        f"the session has {size:,} bytes, but MongoDB's documents have at most 16 MiB; store less, set max_size, or "
        "use compression",
        key=key,
    )
