"""Updates that a bot has not confirmed."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from ._updates import JsonObject, lane


@dataclass(frozen=True, slots=True)
class Update:
    """An update, as it is delivered to the bot.

    Args:
        id: the `update_id`.
        kind: the name of its one optional field, such as `"message"`.
        payload: the object in that field.
    """

    id: int
    kind: str
    payload: JsonObject

    @property
    def message_id(self) -> int:
        """The id of the message it brings, or is about."""
        about = cast("JsonObject", self.payload.get("message", self.payload))
        return cast("int", about["message_id"])

    def json(self) -> JsonObject:
        """The Bot API's `Update`."""
        return {"update_id": self.id, self.kind: self.payload}


class UpdateQueue:
    """Updates of one bot, kept until the bot confirms them (or its webhook takes them)."""

    def __init__(self) -> None:
        self._waiting: dict[int, Update] = {}
        self._again: set[int] = set()  # delivered once more, and not handed out since
        self._woken: asyncio.Future[None] | None = None
        self.waited_for = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def updates(self) -> list[Update]:
        """What is not confirmed, oldest first."""
        return [self._waiting[update_id] for update_id in sorted(self._waiting)]

    def put(self, update: Update) -> None:
        """Add a new update."""
        self._waiting[update.id] = update
        self.wake()

    def put_again(self, update: Update) -> None:
        """Deliver an update once more, although the bot may have confirmed it."""
        self._again.add(update.id)
        self.put(update)

    def take(self, offset: int, limit: int) -> list[Update]:
        """Confirm what lies below the offset, and hand out the oldest of the rest.

        Args:
            offset: as in `getUpdates`: 0 confirms nothing, -n leaves only the last n.
            limit: how many at most.

        Returns:
            Updates, oldest first. They stay until they are confirmed.
        """
        if offset < 0:
            kept = {update.id for update in self.updates()[offset:]}
            confirmed = self._waiting.keys() - kept
        else:
            confirmed = {update_id for update_id in self._waiting if update_id < offset}
        # An update delivered again lies below every offset: the bot can confirm it only after it saw it.
        for update_id in confirmed - self._again:
            self.done(update_id)
        batch = self.updates()[:limit]
        self._again.difference_update(update.id for update in batch)
        return batch

    def first_outside(self, lanes: Collection[object]) -> Update | None:
        """The oldest update of a chat which none of the given lanes belongs to."""
        return next((update for update in self.updates() if lane(update.payload) not in lanes), None)

    def done(self, update_id: int) -> None:
        """Forget an update that the bot has confirmed."""
        self._waiting.pop(update_id, None)
        self._again.discard(update_id)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._again.clear()

    async def changed(self) -> None:
        """Wait for `wake`; one waiter at a time.

        Raises:
            ApiError: whatever `interrupt` was called with.
        """
        woken = self._woken = asyncio.get_running_loop().create_future()
        self.waited_for.set()
        try:
            await woken
        finally:
            if self._woken is woken:
                self._woken = None
                self.waited_for.clear()

    def wake(self) -> None:
        """Let the waiter look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def interrupt(self, error: Exception) -> None:
        """Send the waiter away with an error."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_exception(error)
