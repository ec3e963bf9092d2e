"""Names the keys that belong to a session: in the same cluster slot, and different for different sessions."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from functools import lru_cache

from chatsession.errors import SessionKeyError

RESERVED = b"!chatsession:"
"""The prefix of all keys that are not sessions."""
LOCK = RESERVED + b"lock:"
"""The prefix of locks."""
NEW = RESERVED + b"new:"
"""The prefix of large values that have been sent and are about to be committed."""
SLOTS = 16384
_SHORT = 256
"""The names of locks are cached for keys of up to this many bytes."""


def name_of(key: str) -> bytes | SessionKeyError:
    """Return the Redis key of a session key: the same text, so that `redis-cli GET` finds it."""
    try:
        name = key.encode()
    except UnicodeEncodeError:
        return SessionKeyError("it is not valid Unicode (it has a lone surrogate) and cannot be encoded", key=key)
    if not name:
        return SessionKeyError("it is empty", key=key)
    if name.startswith(RESERVED):
        return SessionKeyError(
            f"keys that begin with {RESERVED.decode()} are reserved for locks; use another key", key=key
        )
    return name


def lock_of(name: bytes) -> bytes:
    """Return the key of a session's lock."""
    return _remembered_lock(name) if len(name) <= _SHORT else LOCK + _beside(name)


def with_locks(names: Sequence[bytes]) -> list[bytes]:
    """Return the keys of sessions, each followed by the key of its lock."""
    return [each for name in names for each in (name, lock_of(name))]


def locked_by(lock: bytes) -> str | None:
    """Return the session of a lock's key; the inverse of `lock_of`."""
    marked, _, rest = lock.removeprefix(LOCK + b"{").partition(b"}")
    try:
        return (rest or marked).decode() or None
    except UnicodeDecodeError:
        return None


def memory_of(name: bytes, call: str) -> bytes:
    """Return the key of the remembered outcome of a call whose first session is this one."""
    return b"%bdone:%b:%b" % (RESERVED, _beside(name), call.encode())


def new_of(name: bytes, call: str) -> bytes:
    """Return the key to which a call sends the new value of a session, before it commits it."""
    return b"%b%b:%b" % (NEW, _beside(name), call.encode())


def slot_of(name: bytes) -> int:
    """Return the cluster slot of a key."""
    return crc_hqx(_hashed(name), 0) % SLOTS


@lru_cache(4096)
def _remembered_lock(name: bytes) -> bytes:
    return LOCK + _beside(name)


def _beside(name: bytes) -> bytes:
    """Return the name with a hash tag that leads to the slot of the bare name; different for different names.

    Redis hashes only the text between the first `{` and the next `}`, unless that is empty. `{name}` suffices for most
    names; a name that contains a `}` is preceded by other text in braces that hashes to the same slot.
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
    """Return two bytes without a `}` that hash to this slot, found by running the checksum backwards."""
    for checksum in range(slot, 1 << 16, SLOTS):
        text = _unhashed(checksum)
        if b"}" not in text:
            return text
    raise AssertionError("four texts of two bytes hash to a slot; a test has seen all of them")


def _unhashed(checksum: int) -> bytes:
    for _ in range(16):
        checksum = (checksum ^ 0x1021) >> 1 | 0x8000 if checksum & 1 else checksum >> 1
    return checksum.to_bytes(2)
