"""Which keys have a prefix, in an index that sorts by code points or by UTF-8."""

from __future__ import annotations


def is_text(prefix: str) -> bool:
    """Whether a stored key may begin with this: it has no half of a surrogate pair."""
    try:
        prefix.encode()
    except UnicodeEncodeError:
        return False
    return True


def end_of_prefix(prefix: str) -> str | None:
    """The first string, by code points, after all that start with `prefix`; `None`: there is no such string."""
    for length in range(len(prefix), 0, -1):
        last = ord(prefix[length - 1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1  # surrogates are no characters
            return prefix[: length - 1] + chr(following)
    return None
