"""Stored bytes as people read and edit them, and back."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct, structs

from chatsession.errors import SessionDecryptError
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, Compressor, decompress
from chatsession.serialization.encryption import SEALED, Keyring
from chatsession.serialization.envelope import Envelope, looks_enveloped, rewrap, unwrap

Kind: TypeAlias = Literal["json", "text", "hex"]

LARGEST = 256 * 1024 * 1024
"""The largest decompressed size, in bytes, so that a small forged frame cannot fill the memory."""
_BYTES_A_LINE = 32
_HEADROOM = 20
"""Stack frames."""


class View(Struct, frozen=True):
    """Stored bytes, decrypted, decompressed and without envelope as far as possible."""

    kind: Kind
    data: bytes | None
    """`None`: it cannot be shown (see `hidden`), or there is none."""
    hidden: bool = False
    """It is encrypted, and its encryption key is not available."""
    problem: str = ""
    """Why it cannot be unpacked any further."""
    encrypted: bool = False
    compressed: bool = False
    envelope: Envelope | None = None
    framed: bool = False

    @property
    def text(self) -> str:
        """The data as text, for reading and editing."""
        data = self.data or b""
        if self.kind == "hex":
            return "\n".join(data[i : i + _BYTES_A_LINE].hex(" ") for i in range(0, len(data), _BYTES_A_LINE))
        return (msgspec.json.format(data, indent=2) if self.kind == "json" and data else data).decode()


class UnusableTextError(ValueError):
    """Edited text is not valid in the form that it is said to have."""


def view(key: str, stored: bytes, keyring: Keyring | None) -> View:
    """Unpack stored bytes as far as possible. Never fails."""
    seen = _unpacked(key, stored, keyring)
    return seen if seen.data is None or seen.problem else structs.replace(seen, kind=kind_of(seen.data))


def data_in(key: str, stored: bytes, keyring: Keyring | None) -> bytes | None:
    """The data of stored bytes, unpacked as by `view`."""
    return _unpacked(key, stored, keyring).data


def _unpacked(key: str, stored: bytes, keyring: Keyring | None) -> View:
    """A view. The kind of its data is not determined yet."""
    encrypted = stored.startswith(SEALED)
    if encrypted and keyring is None:
        return View("hex", None, hidden=True, encrypted=True, problem="It is encrypted, and no key was given.")
    try:
        data = keyring.open(key, stored) if encrypted and keyring is not None else stored
        compressed = data.startswith(COMPRESSED)
        data = decompress(data, LARGEST) if compressed else data
    except SessionDecryptError:
        return View("hex", None, hidden=True, encrypted=True, problem="It is encrypted with a key that was not given.")
    except (CodecError, ImportError) as error:
        return View("hex", stored, problem=f"It cannot be read: {error}.")
    if compressed and data.startswith((SEALED, COMPRESSED)):
        # Stored alone, it would mean something else.
        return View("hex", stored, problem="It cannot be read: the compressed data is not a session's.")
    found = _unwrapped(data)
    if found is None:
        return View("hex", data, encrypted=encrypted, compressed=compressed)
    envelope, inner, framed = found
    return View("json", inner, encrypted=encrypted, compressed=compressed, envelope=envelope, framed=framed)


def stored_form(key: str, seen: View, text: str, kind: Kind, keyring: Keyring | None) -> bytes:
    """Pack edited text for storage, with the same envelope, compression and encryption as before.

    Args:
        key: the session's key.
        seen: what was stored before.
        text: the new data.
        kind: the form of the text.
        keyring: encrypts what was encrypted before.

    Raises:
        UnusableTextError: the text is not valid in this form.
    """
    data = _parsed(text, kind)
    if seen.problem:  # what cannot be unpacked is edited and stored as a whole
        return data
    envelope = seen.envelope
    if envelope is not None:
        if not seen.framed and kind != "json":
            raise UnusableTextError("This session is stored in a JSON envelope, so it must be JSON itself.")
        data = rewrap(envelope, data, json=not seen.framed)
    if seen.compressed:
        data = Compressor(0).compress(data)
    return keyring.seal(key, data) if seen.encrypted and keyring is not None else data


def kind_of(data: bytes) -> Kind:
    """JSON if it is valid JSON, else text if an editor returns it unchanged, else hexadecimal."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "hex"
    try:
        msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        # A carriage return does not survive a text area.
        return "hex" if "\r" in text or "\0" in text else "text"
    return "json"


def is_json(value: bytes) -> bool:
    """Whether it is valid JSON, and not nested so deeply that it could not be read from further down the stack."""
    try:
        _decode_from_below(value, _HEADROOM)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _decode_from_below(value: bytes, calls: int) -> None:
    if calls:
        _decode_from_below(value, calls - 1)
    else:
        msgspec.json.decode(value)


def _unwrapped(data: bytes) -> tuple[Envelope, bytes | None, bool] | None:
    if not looks_enveloped(data):
        return None
    for json in (True, False):
        if (found := unwrap(data, json=json)) is not None:
            return (*found, not json)
    return None


def _parsed(text: str, kind: Kind) -> bytes:
    if kind == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise UnusableTextError("This is not hexadecimal: two digits 0-9 or a-f for each byte.") from None
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise UnusableTextError("This is not valid Unicode: half of a character pair stands alone.") from None
    if kind == "text":
        return data
    try:
        return msgspec.json.format(data, indent=-1)
    except msgspec.DecodeError as error:
        raise UnusableTextError(f"This is not JSON: {_placed(str(error), data)}.") from None
    except RecursionError:
        raise UnusableTextError("This JSON is nested too deeply.") from None


def _placed(message: str, data: bytes) -> str:
    """A message of msgspec, with line and column instead of a byte offset."""
    message = message.removeprefix("JSON is malformed: ")
    found = re.search(r" \(byte (\d+)\)$", message)
    if found is None:
        return "it ends too early" if "truncated" in message else message
    before = data[: int(found[1])].decode(errors="replace")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"{message[: found.start()]} in line {line}, column {column}"
