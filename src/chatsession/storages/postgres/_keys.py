"""Session keys in the form that PostgreSQL can store and index."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from chatsession.errors import SessionKeyError

LONGEST = 2000
"""Bytes of UTF-8; an entry of a PostgreSQL index has room for about 2,700."""
MARK = "\x01"
"""Starts the stored form of every key that is not stored verbatim."""
AFTER_MARK = "\x02"
AFTER_ALL = "\U0010ffff" * (LONGEST // 4 + 1)
"""Sorts after every stored key, because it is longer than the longest of them."""


class StoredKey(NamedTuple):
    """A key as it is indexed and, if that is a digest, the whole key."""

    text: str
    whole: bytes | None


def stored_key(key: str) -> StoredKey:
    """The stored form of a key; two keys never share one, short of a collision of SHA-256.

    Raises:
        SessionKeyError: it is empty, or not valid Unicode.
    """
    if not key:
        raise SessionKeyError("an empty string cannot be a session key", key=key)
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise SessionKeyError(
            "it is not valid Unicode (half of a surrogate pair), so PostgreSQL cannot store it", key=key
        ) from None
    if len(encoded) <= LONGEST and not key.startswith(MARK) and "\0" not in key:
        return StoredKey(key, None)
    return StoredKey(MARK + hashlib.sha256(encoded).hexdigest(), encoded)
