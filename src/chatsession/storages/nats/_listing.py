"""The names in a bucket, in order and in pages. The server sends them in parts of its own size."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable

import msgspec

STEP = 100_000
"""About how many names the server sends at once."""
_OVERLAP = 1000
_MOST_PARTS = 8


class _Part(msgspec.Struct):
    """Names that were fetched ahead."""

    names: list[str]
    offset: int
    """Where the next part begins, or a little before."""
    is_last: bool


class Listing:
    """Gives names in pages, each once, while others are added and removed.

    Args:
        fetch: gives a part of all names in order, from an offset on, and the number of all names.
    """

    def __init__(self, fetch: Callable[[int], Awaitable[tuple[list[str], int]]]) -> None:
        self._fetch = fetch
        self._parts: dict[str, _Part] = {}

    async def after(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """At most `limit` names after a cursor, and the next cursor (`None`: these were the last)."""
        part = self._parts.pop(cursor or "", None) or _Part([], 0, False)
        if not part.names and not part.is_last:
            part = await self._part_after(cursor or "", part.offset)
        names, part.names = part.names[:limit], part.names[limit:]
        if not names or (part.is_last and not part.names):
            return names, None
        self._parts[names[-1]] = part
        while len(self._parts) > _MOST_PARTS:
            del self._parts[next(iter(self._parts))]
        return names, names[-1]

    async def _part_after(self, last: str, offset: int) -> _Part:
        while True:
            names, total = await self._fetch(offset)
            end = offset + len(names)
            following = end - min(_OVERLAP, len(names) // 2)
            if offset and (not names or names[0] > last):  # so many were deleted that some would be skipped
                offset = max(0, offset - STEP)
                continue
            names = names[bisect_right(names, last) :]
            if names or end >= total:
                return _Part(names, following, end >= total)
            offset = following
