"""Stored data as a person reads it and types it back."""

from __future__ import annotations

import base64
import json
from typing import Literal

import msgspec

from chatsession.contents import LARGEST, is_json
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, decompress
from chatsession.serialization.encryption import SEALED
from chatsession.serialization.envelope import MARK

Kind = Literal["json", "text", "encrypted", "compressed", "framed", "binary"]


def plain(value: bytes) -> bytes:
    """The value, decompressed where it is compressed and can be."""
    if value.startswith(COMPRESSED):
        try:
            return decompress(value, LARGEST)
        except (CodecError, ImportError):
            return value
    return value


def kind_of(value: bytes) -> Kind:
    """What kind of bytes these are; compressed data that can be read counts as what it holds."""
    value = plain(value)
    if value.startswith(SEALED):
        return "encrypted"
    if value.startswith(COMPRESSED):
        return "compressed"
    if is_json(value):
        return "json"
    if value.startswith(MARK):
        return "framed"
    try:
        value.decode()
    except UnicodeDecodeError:
        return "binary"
    return "text"


def pretty(value: bytes) -> str:
    """As a person reads it: indented JSON, text as it is, and bytes that are not text as `\\x..`."""
    value = plain(value)
    if is_json(value):
        return indented(value)
    return value.decode(errors="backslashreplace")


def indented(value: bytes) -> str:
    """JSON over several lines; numbers and names are left as they were written."""
    return msgspec.json.format(value, indent=2).decode()


def compact(value: bytes) -> bytes:
    """JSON in one line."""
    return msgspec.json.format(value, indent=-1) if b"\n" in value or b"\r" in value else value


def for_scripts(value: bytes) -> dict[str, object]:
    """The value as a field of a JSON line: `value` where it is JSON, else `base64`."""
    read = plain(value)
    if is_json(read):
        return {"value": json.loads(read)}
    return {"base64": base64.b64encode(value).decode()}
