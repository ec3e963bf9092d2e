"""The envelope: what is stored with a session's data, if there is more to store than the data.

Most sessions are stored as bare data. Where a version, remembered updates or a move of the chat have to be kept, the
data lies in an envelope, the one of grammY's `enhanceStorage` with fields of our own added, so that either library
reads what the other has written:

    {"__d": data, "v": version, "e": expiry in milliseconds, "u": [updates], "m": moved to, "f": moving from,
     "a": [[update, [[kind, name, [arguments], {keywords}], ...]], ...]}

`"a"` has the actions that updates handed to `after_commit`, for as long as they may have to be sent again.

Data of a codec other than JSON follows such an envelope, whose `__d` is then `null`, as a block of its own.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field
from msgspec.structs import replace

MARK = b"\x01"
"""Begins everything stored that is not the codec's own output; JSON never begins with it."""
DATA = b'"__d"'
"""Is in every envelope of JSON."""

_UNDERSCORE = DATA[1]
"""A single byte is found many times faster, and most data has none."""

_FRAME = MARK + b"h"
_NULL = Raw(b"null")


class StoredAction(Struct, array_like=True, frozen=True, gc=False):
    """An action, as it is stored."""

    kind: Literal["function", "method"]
    """A registered function, or a method of the bot."""
    name: str
    args: Raw
    kwargs: Raw


class UpdateActions(Struct, array_like=True, frozen=True, gc=False):
    """What one update handed to `after_commit`, in order."""

    update: int | str
    actions: tuple[StoredAction, ...]


class Envelope(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """One envelope; a field that is unset is not there."""

    data: Raw = field(name="__d")
    version: float | int | UnsetType | None = field(name="v", default=UNSET)
    expires: float | int | UnsetType | None = field(name="e", default=UNSET)
    updates: list[int | str] | UnsetType = field(name="u", default=UNSET)
    moved_to: str | UnsetType = field(name="m", default=UNSET)
    moving_from: str | UnsetType = field(name="f", default=UNSET)
    actions: tuple[UpdateActions, ...] | UnsetType = field(name="a", default=UNSET)


_decode = msgspec.json.Decoder(Envelope).decode
_encode = msgspec.json.Encoder().encode


def looks_enveloped(data: bytes) -> bool:
    """May this be more than bare data? Quick, and wrong only by saying yes."""
    return (_UNDERSCORE in data and DATA in data) or data[:1] == MARK


def wrap(
    data: bytes | None,
    *,
    json: bool,
    version: float | None = None,
    expires: float | None = None,
    updates: list[int | str] | None = None,
    moved_to: str | None = None,
    moving_from: str | None = None,
    actions: tuple[UpdateActions, ...] = (),
) -> bytes:
    """Put data into an envelope.

    Args:
        data: the codec's output; `None`: there is none.
        json: the data is JSON.
        version: of the data, as in `migrations`.
        expires: Unix time in milliseconds.
        updates: ids of updates that were handled.
        moved_to: the key under which the session is now.
        moving_from: the key from which a session is on its way here.
        actions: of updates, for `after_commit`.
    """
    envelope = Envelope(
        data=Raw(data) if json and data is not None else _NULL,
        version=UNSET if version is None else version,
        expires=UNSET if expires is None else expires,
        updates=updates or UNSET,
        moved_to=UNSET if moved_to is None else moved_to,
        moving_from=UNSET if moving_from is None else moving_from,
        actions=actions or UNSET,
    )
    encoded = _encode(envelope)
    return encoded if json else _framed(encoded, data)


def rewrap(envelope: Envelope, data: bytes, *, json: bool) -> bytes:
    """Put other data into an envelope that was unwrapped. All else in it stays."""
    encoded = _encode(replace(envelope, data=Raw(data) if json else _NULL))
    return encoded if json else _framed(encoded, data)


def unwrap(stored: bytes, *, json: bool) -> tuple[Envelope, bytes | None] | None:
    """The envelope and the data in it, if there is any; `None` for bare data."""
    if json:
        try:
            envelope = _decode(stored)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        data = bytes(envelope.data)
        return envelope, None if data == b"null" else data
    if not stored.startswith(_FRAME):
        return None
    size = int.from_bytes(stored[2:6], "big")
    try:
        envelope = _decode(stored[6 : 6 + size])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return envelope, stored[6 + size :] or None


def _framed(envelope: bytes, data: bytes | None) -> bytes:
    return _FRAME + len(envelope).to_bytes(4, "big") + envelope + (data or b"")
