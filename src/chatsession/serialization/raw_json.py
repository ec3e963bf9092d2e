"""Reads JSON only as deep as necessary."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Raw

Items: TypeAlias = list[Raw]
Fields: TypeAlias = dict[str, Raw]

_decode_fields = msgspec.json.Decoder(Fields).decode
_decode_items = msgspec.json.Decoder(Items).decode
_decode = msgspec.json.Decoder().decode


def fields_of(raw: Raw) -> Fields | None:
    """The fields of a JSON object; `None` for other JSON. Raises `UnicodeDecodeError` if a name is not UTF-8."""
    try:
        return _decode_fields(raw)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:
        bytes(raw).decode()  # msgspec itself raises UnicodeDecodeError before 0.23
        return None


def items_of(raw: Raw) -> Items | None:
    """The items of a JSON array; `None` for other JSON."""
    try:
        return _decode_items(raw)
    except msgspec.DecodeError:
        return None


def plain(raw: Raw) -> object:
    """The data as dicts, lists, strings and numbers."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bytes(raw)
