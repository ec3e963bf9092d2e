"""What is wrong with what is stored under a key."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from chatsession.cli._values import is_json
from chatsession.errors import SessionError
from chatsession.manager import SessionManager
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, decompress
from chatsession.serialization.encryption import SEALED
from chatsession.serialization.envelope import MARK, looks_enveloped, unwrap

Trouble = Literal["undecodable", "torn", "expired", "orphaned", "quarantined"]

_LARGEST = 256 * 1024 * 1024


class Finding(NamedTuple):
    """Something that is not as it should be; `why` holds no session data."""

    key: str
    trouble: Trouble
    why: str


def examine(key: str, value: bytes, manager: SessionManager[Any] | None, now: float) -> Finding | None:
    """Look at one session.

    Args:
        key: the session.
        value: what is stored.
        manager: of the session; knows its type, migrations and encryption keys. `None`: check the form only.
        now: Unix time.
    """
    if not value:
        return Finding(key, "torn", "it is empty")
    if manager is not None:
        return _by_manager(key, value, manager)
    return _by_form(key, value, now)


def moved_to(value: bytes) -> str | None:
    """The key to which a session has moved, if it has."""
    try:
        found = unwrap(value, json=True) if looks_enveloped(value) else None
    except CodecError:
        return None
    moved = None if found is None else found[0].moved_to
    return None if moved is UNSET or not moved else moved


def _by_manager(key: str, value: bytes, manager: SessionManager[Any]) -> Finding | None:
    serializer = manager.runtime.serializer
    try:
        opened = serializer.unpack(key, value)
        if opened is None or not opened.empty:
            serializer.loads(key, value if opened is None else opened.data)
    except SessionError as error:
        return Finding(key, "undecodable", str(error))
    return None


def _by_form(key: str, value: bytes, now: float) -> Finding | None:
    if value.startswith(SEALED):
        return None  # only its manager can tell
    if value.startswith(COMPRESSED):
        try:
            value = decompress(value, _LARGEST)
        except ImportError:
            return None
        except CodecError as error:
            return Finding(key, "torn", str(error))
    if is_json(value):
        return _by_envelope(key, value, now)
    if value.startswith(MARK):
        return None  # of another codec
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            return Finding(key, "torn", "it is the beginning of some JSON")
    except (UnicodeDecodeError, RecursionError):
        pass
    return Finding(key, "undecodable", "it is not JSON; if it is of a codec of yours, name the manager by --sessions")


def _by_envelope(key: str, value: bytes, now: float) -> Finding | None:
    found = unwrap(value, json=True) if looks_enveloped(value) else None
    expires = None if found is None else found[0].expires
    if isinstance(expires, (int, float)) and expires <= now * 1000:
        return Finding(key, "expired", "its envelope says so; it is deleted when it is next used, or by rm")
    return None
