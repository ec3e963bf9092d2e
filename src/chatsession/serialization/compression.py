"""Compresses large sessions with Zstandard (RFC 8878)."""

from __future__ import annotations

from types import ModuleType

from chatsession.serialization.codec import CodecError
from chatsession.serialization.envelope import MARK

COMPRESSED = MARK + b"z"
"""Begins compressed data; a Zstandard frame follows."""


class Compressor:
    """Compresses data above a threshold, if that makes it smaller.

    Args:
        threshold: size in bytes above which to try.

    Raises:
        ImportError: the library for it is not installed.
    """

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._compress = _zstandard().ZstdCompressor(level=3).compress

    def compress(self, data: bytes) -> bytes:
        """The data, compressed if that makes it smaller."""
        if len(data) <= self._threshold:
            return data
        compressed = COMPRESSED + self._compress(data)
        return compressed if len(compressed) < len(data) else data


def decompress(data: bytes, limit: int) -> bytes:
    """Undo `Compressor.compress`.

    Args:
        data: begins with `COMPRESSED`.
        limit: the largest size of the result, in bytes, so that a small forged frame cannot fill the memory.

    Raises:
        CodecError: it was altered or cut, or is too large.
        ImportError: the library for it is not installed.
    """
    zstandard = _zstandard()
    frame = data[len(COMPRESSED) :]
    try:
        size = zstandard.frame_content_size(frame)
        if size > limit:
            raise CodecError(f"the compressed data says that it is {size:,} bytes, more than {limit:,}")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=limit)
    except zstandard.ZstdError:
        raise CodecError("the compressed data was altered or cut, or is too large") from None


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError("compressed sessions need zstandard: pip install 'chatsession[compression]'") from error
    return zstandard
