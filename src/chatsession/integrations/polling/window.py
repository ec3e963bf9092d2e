"""Which updates are under way, and from which one Telegram is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

RawUpdate: TypeAlias = dict[str, Any]
"""An update as the Bot API delivers it, or with its `update_id` and what a framework has made of it."""


class Window:
    """The updates that Telegram has delivered and that are not confirmed yet.

    Telegram delivers the oldest unconfirmed updates, at most `size` of them, again with each `getUpdates`; an offset
    confirms all below it. So the offset is the lowest update that is not done, and what was delivered before is not
    new.

    Args:
        size: how many updates may be unconfirmed.
    """

    def __init__(self, size: int) -> None:
        self.size: int = size
        self._running: dict[int, None] = {}
        self._done: set[int] = set()
        """Done, and not confirmed, because a lower one is not done."""
        self._next = 0

    @property
    def running(self) -> Collection[int]:
        """The ids of the updates that are not done."""
        return self._running.keys()

    @property
    def offset(self) -> int:
        """The lowest update that is not done; 0: none was delivered yet."""
        return min(self._running) if self._running else self._next

    @property
    def free(self) -> int:
        """How many new updates the next `getUpdates` can bring."""
        offset = self.offset
        return self.size - len(self._running) - sum(update_id >= offset for update_id in self._done)

    def take(self, batch: Iterable[RawUpdate]) -> list[RawUpdate]:
        """The updates of a batch that are new; they are under way from now on."""
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
        """An update needs no further delivery."""
        del self._running[update_id]
        self._done.add(update_id)

    def confirmed(self, offset: int) -> None:
        """Telegram has got this offset, and will not deliver again what is below it."""
        self._done = {update_id for update_id in self._done if update_id >= offset}
