"""Values that the next updates of busy chats need not decode again.

What is encoded is decoded once, to be sure that it can be read back, and a chat that writes once mostly writes again
soon. The value that was decoded waits here for the chat's next update, which gets it if the same bytes are stored,
whoever wrote them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 2_000
_BUDGET = 8 * 1024 * 1024
"""Bytes of all data that is kept here, of one value or many. Their values take a few times as much."""
_NOTHING = b"", None


class DecodedCache(Generic[T]):
    """One value for each of the keys that wrote last, handed out once."""

    __slots__ = ("_size", "_values")

    def __init__(self) -> None:
        self._size = 0
        """Bytes of all data."""
        self._values: dict[str, tuple[bytes, T | None]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: str, data: bytes, value: T | None) -> None:
        """Keep the value that was decoded from `data`, and that nobody else may have; `None`: know the data only."""
        before, _ = self._values.pop(key, _NOTHING)  # so that it becomes the newest
        self._values[key] = data, value
        self._size += len(data) - len(before)
        while self._size > _BUDGET or len(self._values) > _MOST:
            dropped, _ = self._values.pop(next(iter(self._values)))
            self._size -= len(dropped)

    def take(self, key: str, data: bytes) -> T | None:
        """The value of these bytes, for the caller alone; `None` if it must be decoded."""
        known, value = self._values.get(key, _NOTHING)
        if value is None or known != data:
            return None
        self._values[key] = data, None
        return value

    def is_own(self, key: str, data: bytes) -> bool:
        """Are these bytes known to be what was encoded here, and nothing else?"""
        found = self._values.get(key)
        return found is not None and found[0] == data
