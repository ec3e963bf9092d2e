"""Names of entries for session keys, and back. No two keys have the same name.

A name may contain `A-Z a-z 0-9 - / _ = .`, with no dot at either end and no two in a row. Keys of these characters are
their own names, except that `=` begins an escape: `=20` is the byte of a blank.
"""

from __future__ import annotations

import re

from chatsession.errors import SessionKeyError

LONGEST = 2000
"""Bytes of a name. The server reads protocol lines of at most 4,096 bytes, with subjects around the name."""

_PLAIN = re.compile(r"[A-Za-z0-9_/-]+(?:\.[A-Za-z0-9_/-]+)*")
_NAME = re.compile(r"(?:[A-Za-z0-9_/.-]|=[0-9A-F]{2})+")
_ESCAPES = [chr(byte) if re.fullmatch(r"[A-Za-z0-9_/-]", chr(byte)) else f"={byte:02X}" for byte in range(256)]
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")


def name_of(key: str) -> str:
    """The name of the key's entry.

    Raises:
        SessionKeyError: the key is empty, not valid Unicode, or too long.
    """
    if len(key) <= LONGEST and _PLAIN.fullmatch(key):
        return key
    if not key:
        raise SessionKeyError("an empty key cannot be stored", key=key)
    try:
        name = "" if len(key) > LONGEST else "".join([_ESCAPES[byte] for byte in key.encode()])
    except UnicodeEncodeError:
        raise SessionKeyError("it is not valid Unicode and cannot be stored", key=key) from None
    if not 0 < len(name) <= LONGEST:
        raise SessionKeyError(
            f"it is too long for NATS, whose subjects have room for keys of {LONGEST:,} bytes, escaped; "
            "use shorter keys, or another storage",
            key=key,
        )
    return name


def key_of(name: str) -> str | None:
    """The key that has this name. `None` if no key has it."""
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        return None
    try:
        key = _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), name.encode()).decode()
    except UnicodeDecodeError:
        return None
    return key if name_of(key) == name else None
