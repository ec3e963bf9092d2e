"""Sessions that only who has the key can read: AES-256-GCM, bound to the session's key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from chatsession.errors import SessionDecryptError
from chatsession.serialization.codec import CodecError
from chatsession.serialization.envelope import MARK

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEALED = MARK + b"e"
"""Begins encrypted data; 4 bytes that name the key, 12 of nonce, the ciphertext and 16 of tag follow."""

_KEY, _NAME, _NONCE, _TAG = 32, 4, 12, 16
_HEAD = len(SEALED) + _NAME


def generate_encryption_key() -> str:
    """Make a new key for `encryption_keys`, as text for an environment variable; keep it secret, and keep it.

    Examples:
        >>> from chatsession import generate_encryption_key
        >>> len(generate_encryption_key())
        44
    """
    return base64.urlsafe_b64encode(os.urandom(_KEY)).decode()


class Keyring:
    """The keys of one kind of session: the first encrypts, all of them decrypt.

    AES-GCM (NIST SP 800-38D) with a random nonce: replace a key before it has encrypted 2**32 times. The session key
    is authenticated as associated data, so that a ciphertext moved to another chat is refused.

    Args:
        keys: the newest first; each 32 bytes, or their base64 as `generate_encryption_key` returns it.

    Raises:
        ImportError: the library for it is not installed.
        ValueError: something else than a key was given.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Collection):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
            raise ValueError("encryption_keys is a list of keys, the newest first")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ImportError("encryption_keys need cryptography: pip install 'chatsession[encryption]'") from error
        raw = [_raw(key, number) for number, key in enumerate(keys, 1)]
        self._ciphers: dict[bytes, AESGCM] = {_name(key): AESGCM(key) for key in reversed(raw)}
        self._newest = _name(raw[0])

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._ciphers)} keys>"

    def seal(self, key: str, data: bytes) -> bytes:
        """Encrypt what is stored under a session key, with the newest key."""
        head = SEALED + self._newest
        nonce = os.urandom(_NONCE)
        return head + nonce + self._ciphers[self._newest].encrypt(nonce, data, head + key.encode())

    def open(self, key: str, sealed: bytes) -> bytes:
        """Decrypt what is stored under a session key.

        Raises:
            SessionDecryptError: it was encrypted with a key that is not here.
            CodecError: it was altered or cut, or belongs to another session key.
        """
        if len(sealed) < _HEAD + _NONCE + _TAG:
            raise CodecError("the encrypted data was cut")
        cipher = self._ciphers.get(sealed[len(SEALED) : _HEAD])
        if cipher is None:
            raise SessionDecryptError(
                "it is encrypted with a key that is not among encryption_keys; add that key (older ones go last)",
                key=key,
            )
        try:
            return cipher.decrypt(
                sealed[_HEAD : _HEAD + _NONCE], sealed[_HEAD + _NONCE :], sealed[:_HEAD] + key.encode()
            )
        except Exception:  # InvalidTag, of which there is nothing more to say
            raise CodecError("the encrypted data was altered, or comes from another session") from None

    def newest(self, sealed: bytes) -> bool:
        """Was this encrypted with the newest key?"""
        return sealed[len(SEALED) : _HEAD] == self._newest


def _raw(key: object, number: int) -> bytes:
    """The bytes of a key; the messages never show it."""
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(
                f"encryption key number {number} is not base64; make one by generate_encryption_key()"
            ) from None
    if not isinstance(key, bytes) or len(key) != _KEY:
        raise ValueError(f"encryption key number {number} is not {_KEY} bytes; make one by generate_encryption_key()")
    return key


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"chatsession" + key).digest()[:_NAME]
