"""Which updates are under way, and the offset for the next `getUpdates`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

RawUpdate: TypeAlias = dict[str, Any]
"""An update as the Bot API delivers it, or its `update_id` beside a framework's object."""


class Window:
    """The updates that Telegram has delivered and that are not confirmed.

    Each `getUpdates` returns the oldest unconfirmed updates, at most `size` of them, also if it has returned them
    before. Its offset confirms all updates below it. So the offset is the lowest update that is not done.

    Args:
        size: how many updates may be unconfirmed.
    """

    def __init__(self, size: int) -> None:
        self.size: int = size
        self._running: dict[int, None] = {}
        self._done: set[int] = set()
        """Updates that are done but not confirmed, because a lower one is not done."""
        self._next = 0

    @property
    def running(self) -> Collection[int]:
        """The ids of the updates that are not done."""
        return self._running.keys()

    @property
    def offset(self) -> int:
        """The id of the lowest update that is not done; 0 before the first delivery."""
        return min(self._running) if self._running else self._next

    @property
    def free(self) -> int:
        """How many new updates the next `getUpdates` can return."""
        offset = self.offset
        return self.size - len(self._running) - sum(update_id >= offset for update_id in self._done)

    def take(self, batch: Iterable[RawUpdate]) -> list[RawUpdate]:
        """Returns the new updates of a batch, which are under way from now on."""
        new: list[RawUpdate] = []
        for update in batch:
            update_id: int = update["update_id"]
            if update_id in self._running or update_id in self._done:
                continue
            self._running[update_id] = None
            self._next = update_id + 1
            new.append(update)
        return new

    def done(self, update_id: int) -> None:
        """An update is done."""
        del self._running[update_id]
        self._done.add(update_id)

    def confirmed(self, offset: int) -> None:
        """Telegram has received this offset, and will not return updates below it again."""
        self._done = {update_id for update_id in self._done if update_id >= offset}
