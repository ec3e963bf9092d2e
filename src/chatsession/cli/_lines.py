"""The file that `export` writes and `import` reads: JSON Lines, each a session or a mark.

{"chatsession": 1, "prefix": ""}                                    the first line
{"key": "42", "value": {"count": 1}, "expires_in": 3600.0}    a session; without `expires_in` it never expires
{"key": "43", "base64": "AWUB…"}                                    one that is not JSON
{"resume": "…"}                                                     everything before it is complete; where to continue
{"end": 2}                                                          the last line: so many sessions

`expires_in` is in seconds, because the clock of the storage that reads the file may differ. Files of version 0.1 have
`expires_at`, a Unix time, instead.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from chatsession.cli._values import compact
from chatsession.contents import is_json
from chatsession.storages import Record

_VERSION = 1


class Line(Struct, omit_defaults=True, frozen=True):
    """Any line of the file; fields that are unset are not there."""

    chatsession: int | UnsetType = UNSET
    prefix: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    value: Raw | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    expires_in: float | UnsetType = UNSET
    expires_at: float | UnsetType | None = UNSET
    resume: str | UnsetType = UNSET
    end: int | UnsetType = UNSET


Session: TypeAlias = tuple[str, bytes, float | None]
"""Key, value, and the Unix time at which it expires."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def head(prefix: str) -> bytes:
    return _encode(Line(chatsession=_VERSION, prefix=prefix)) + b"\n"


def mark(cursor: str) -> bytes:
    return _encode(Line(resume=cursor)) + b"\n"


def end(sessions: int) -> bytes:
    return _encode(Line(end=sessions)) + b"\n"


def session(key: str, record: Record, now: float) -> bytes:
    """A session's line, from which the same bytes come back (but for line breaks within JSON)."""
    expires_in = UNSET if record.expires_at is None else max(round(record.expires_at - now, 3), 0.001)
    if is_json(record.value):
        return _encode(Line(key=key, value=Raw(compact(record.value)), expires_in=expires_in)) + b"\n"
    return _encode(Line(key=key, base64=base64.b64encode(record.value).decode(), expires_in=expires_in)) + b"\n"


def parsed(line: bytes) -> Line:
    """Raises `ValueError` that says what is wrong, less the data."""
    try:
        return _decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is not JSON, or only the beginning of some") from None


def session_of(line: Line, now: float) -> Session | None:
    """The session that a line holds, if it does; `now` is the target's time. Raises `ValueError`."""
    if line.chatsession is not UNSET and line.chatsession > _VERSION:
        raise ValueError("a newer version of chatsession wrote this file; update this one")
    if line.key is UNSET:
        return None
    if not line.key:
        raise ValueError("its key is empty")
    expires_at = None if line.expires_at is UNSET else line.expires_at
    if line.expires_in is not UNSET:
        expires_at = now + line.expires_in
    if line.value is not UNSET:
        return line.key, bytes(line.value), expires_at
    if line.base64 is UNSET:
        raise ValueError("it has a key, but neither value nor base64")
    try:
        return line.key, base64.b64decode(line.base64, validate=True), expires_at
    except binascii.Error:
        raise ValueError("it is not base64") from None
