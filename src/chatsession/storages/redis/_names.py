"""What the keys beside a session's key are called: always in its cluster slot, never like another session's."""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache

from chatsession.errors import SessionKeyError

RESERVED = b"!chatsession:"
"""Begins all keys that are no sessions."""
LOCK = RESERVED + b"lock:"
"""Begins the keys of locks."""
_SLOTS = 16384
_SHORT = 256
"""Bytes of the longest names whose locks are remembered: sessions come again and again."""


def name_of(key: str) -> bytes | SessionKeyError:
    """The Redis key of a session key: the very same text, so that `redis-cli GET` finds it."""
    try:
        name = key.encode()
    except UnicodeEncodeError:
        return SessionKeyError("it is no valid Unicode (a lone surrogate), which has no bytes to store it by", key=key)
    if not name:
        return SessionKeyError("it is empty", key=key)
    if name.startswith(RESERVED):
        return SessionKeyError(f"keys that begin with {RESERVED.decode()} are those of the locks; use another", key=key)
    return name


def lock_of(name: bytes) -> bytes:
    """The key of a session's lock."""
    return _remembered_lock(name) if len(name) <= _SHORT else LOCK + _beside(name)


def locked_by(lock: bytes) -> str | None:
    """The session of a lock's key; the inverse of `lock_of`."""
    marked, _, rest = lock.removeprefix(LOCK + b"{").partition(b"}")
    try:
        return (rest or marked).decode() or None
    except UnicodeDecodeError:
        return None


def memory_of(name: bytes, call: str) -> bytes:
    """The key under which the outcome of a call is remembered whose first session is this one."""
    return b"%bdone:%b:%b" % (RESERVED, _beside(name), call.encode())


def slot_of(name: bytes) -> int:
    """The cluster slot of a key."""
    return crc_hqx(_hashed(name), 0) % _SLOTS


@lru_cache(4096)
def _remembered_lock(name: bytes) -> bytes:
    return LOCK + _beside(name)


def _beside(name: bytes) -> bytes:
    """The name, marked so that it hashes to the slot of the bare name, and different for different names.

    Redis hashes only what stands between the first `{` and the `}` after it, if that is something. So `{name}` will
    do for most; in a name that has a `}`, other text must come first that hashes to the same slot.
    """
    if b"}" not in name:
        return b"{%b}" % name
    hashed = _hashed(name)
    return b"{%b}%b" % (hashed if b"}" not in hashed else _text_in_slot(slot_of(name)), name)


def _hashed(name: bytes) -> bytes:
    start = name.find(b"{")
    end = name.find(b"}", start + 1)
    return name[start + 1 : end] if 0 <= start < end - 1 else name


def _text_in_slot(slot: int) -> bytes:
    """Two bytes that hash to this slot, found by running the checksum backwards, and none of them a `}`."""
    for checksum in range(slot, 1 << 16, _SLOTS):
        text = _unhashed(checksum)
        if b"}" not in text:
            return text
    raise AssertionError("four texts of two bytes hash to a slot; a test has seen all of them")


def _unhashed(checksum: int) -> bytes:
    for _ in range(16):
        checksum = (checksum ^ 0x1021) >> 1 | 0x8000 if checksum & 1 else checksum >> 1
    return checksum.to_bytes(2)
