"""Values that the next updates of busy chats need not decode again.

What is encoded is decoded once, to be sure that it can be read back; and a chat that writes once mostly writes again
soon. So what came of that check waits here for the chat's next update, which gets it if the bytes that it finds
stored are those: in one process or many, whoever wrote them, and whatever became of the write.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 2_000
_MOST_BYTES = 4_096
"""Of one value: what waits here fills a few megabytes, however many chats there are and however large they are."""


class DecodedCache(Generic[T]):
    """One value for each of the keys that wrote last, handed out once."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, T | None]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: str, data: bytes, value: T) -> None:
        """Keep the value that was decoded from `data`; nobody else may have it."""
        values = self._values
        if len(data) > _MOST_BYTES:
            values.pop(key, None)
            return
        if len(values) >= _MOST and key not in values:
            del values[next(iter(values))]
        values[key] = data, value

    def take(self, key: str, data: bytes) -> T | None:
        """The value of these bytes, for the caller alone; `None` if it must be decoded."""
        found = self._values.get(key)
        if found is None or found[0] != data:
            return None
        self._values[key] = data, None
        return found[1]

    def is_own(self, key: str, data: bytes) -> bool:
        """Are these bytes known to be what was encoded here, and nothing else?"""
        found = self._values.get(key)
        return found is not None and found[0] == data
