"""Encrypted sessions; `CHATSESSION_ENCRYPTION_KEYS` holds the keys, the newest first, separated by commas."""

from __future__ import annotations

import os
from functools import cache

from chatsession.cli._running import USAGE, CommandError
from chatsession.contents import data_in
from chatsession.serialization.encryption import SEALED, Keyring

_VARIABLE = "CHATSESSION_ENCRYPTION_KEYS"


def is_sealed(value: bytes) -> bool:
    """Whether a stored value is encrypted."""
    return value.startswith(SEALED)


def decrypted(key: str, value: bytes) -> bytes:
    """The value in the clear, where it is encrypted and there are keys; else as it is.

    Raises:
        SessionDecryptError: it needs another key.
    """
    given = os.environ.get(_VARIABLE, "")
    return _keyring(given).open(key, value) if given and is_sealed(value) else value


def readable(key: str, value: bytes) -> bytes | None:
    """The data in a session; `None`: there is none, or it is encrypted with another key."""
    given = os.environ.get(_VARIABLE, "")
    return data_in(key, value, _keyring(given) if given else None)


def sealed(key: str, value: bytes) -> bytes:
    """The value, encrypted with the newest key."""
    return _keyring(os.environ.get(_VARIABLE, "")).seal(key, value)


def given_keys() -> list[str]:
    """The encryption keys that are given."""
    return [key.strip() for key in os.environ.get(_VARIABLE, "").split(",") if key.strip()]


@cache
def _keyring(given: str) -> Keyring:
    keys = given_keys()
    if not keys:
        raise CommandError(USAGE, f"this session is encrypted; set {_VARIABLE} to the bot's keys, the newest first")
    try:
        return Keyring(keys)
    except ValueError as error:
        raise CommandError(USAGE, f"{_VARIABLE}: {error}") from None
