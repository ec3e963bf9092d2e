"""Maps a session key to a file name and back: readable where that is safe, and unique for each key.

A name consists of `a-z 0-9 _ - %` and, in an escape, `A-F`: it is the same name to a file system that folds case or
normalises Unicode, means nothing special to any system, and cannot leave its folder. `%2F` stands for the byte `/`,
as in a URL; upper case letters are escaped too, because `Bob` and `bob` are one file on macOS and Windows.
A key whose name would be too long is kept under its digest, `=` and 64 hex digits, with the key itself in a file of
its own next to it.
"""

from __future__ import annotations

import hashlib
import re
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from chatsession.errors import SessionKeyError

LONGEST = 200
"""Bytes, of the 255 that file systems allow; the rest is for the extension."""

_PLAIN = re.compile(r"[a-z0-9_-]+")
_NAME = re.compile(r"(?:[a-z0-9_-]|%[0-9A-F]{2})+")
_DIGEST = re.compile(r"=[0-9a-f]{64}")
_ESCAPES = [chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"%{byte:02X}" for byte in range(256)]
# Names of devices on Windows, with any extension.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{device}{number}" for device in ("com", "lpt") for number in range(10)}


class Names:
    """The names of the files, without the extension, and the folders that they are in."""

    others_write: ClassVar[bool] = False
    """Whether other programs write these files too, in place. People may edit them in any case."""

    def name_of(self, key: str) -> str:
        """The name of the key's file.

        Raises:
            SessionKeyError: the key is empty, or not valid Unicode.
        """
        if len(key) <= LONGEST and _PLAIN.fullmatch(key) and key not in _DEVICES:
            return key
        data = _encoded(key)
        if len(data) > LONGEST:
            return _digest(data)
        name = "".join([_ESCAPES[byte] for byte in data])
        if key in _DEVICES:
            name = f"%{data[0]:02X}{key[1:]}"
        return name if len(name) <= LONGEST else _digest(data)

    def key_of(self, name: str) -> str | None:
        """The key that has this name; `None` if no key has it, or if the name is the digest of a long key."""
        if not _NAME.fullmatch(name):
            return None
        try:
            key = unquote_to_bytes(name).decode()
        except UnicodeDecodeError:
            return None
        return key if self.name_of(key) == name else None

    def is_digest(self, name: str) -> bool:
        """Whether a name is the digest of a long key."""
        return _DIGEST.fullmatch(name) is not None

    def folder_of(self, name: str) -> str:
        """The folder of the file: the name's last two characters, as in grammY's file storage."""
        return name[-2:]

    def is_folder(self, folder: str) -> bool:
        """Whether a folder of this name may contain sessions."""
        return len(folder) <= 2

    def name_at(self, folder: str, file: str) -> str:
        """The name of a file found in a folder."""
        return file

    def check_folded(self, key: str) -> None:
        """Raise `SessionKeyError` if a file system that folds case or normalizes may confuse the name with another."""


def _encoded(key: str) -> bytes:
    if not key:
        raise SessionKeyError("an empty key cannot be stored", key=key)
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise SessionKeyError("it is not valid Unicode and cannot be stored", key=key) from None


def _digest(data: bytes) -> str:
    return f"={hashlib.sha256(data).hexdigest()}"
