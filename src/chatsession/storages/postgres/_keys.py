"""Session keys in the form that PostgreSQL can store and index."""

from __future__ import annotations

import hashlib

from chatsession.errors import SessionKeyError

LONGEST = 2000
"""Bytes of UTF-8; an entry of a PostgreSQL index has room for about 2,700."""
MARK = "\x01"
"""Starts the stored form of every key that is not stored verbatim."""
AFTER_MARK = "\x02"
AFTER_ALL = "\U0010ffff" * (LONGEST // 4 + 1)
"""Sorts after every stored key, because it is longer than the longest of them."""


def stored_key(key: str) -> tuple[str, bytes | None]:
    """A key as it is indexed and, if that is a digest, the whole key.

    Two keys are never indexed alike, short of a collision of SHA-256.

    Raises:
        SessionKeyError: it is empty, or not valid Unicode.
    """
    if key.isprintable() and 0 < len(key) <= LONGEST // 4:  # nearly always
        return key, None
    if not key:
        raise SessionKeyError("an empty string cannot be a session key", key=key)
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise SessionKeyError(
            "it is not valid Unicode (half of a surrogate pair), so PostgreSQL cannot store it", key=key
        ) from None
    if len(encoded) <= LONGEST and not key.startswith(MARK) and "\0" not in key:
        return key, None
    return MARK + hashlib.sha256(encoded).hexdigest(), encoded
