"""Separate batches for keys of different servers, so that a stuck server holds up only its own keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from chatsession.coordination.batching import Batch, Batcher, Item, Result
from chatsession.errors import SessionError
from chatsession.storages import Storage


class LaneBatcher(Batcher[Item, Result]):
    """A batcher for each lane of a storage.

    Args:
        call: called with items of different keys of one lane; returns their results in the same order.
        size: the largest number of items in a batch.
        in_flight: the largest number of batches of one lane under way at the same time.
        lane_of: returns the lane of a key (see `Storage.lane_of`).
    """

    __slots__ = ("_lane_of", "_lanes")

    def __init__(
        self,
        call: Callable[[list[Item]], Coroutine[Any, Any, Sequence[Result | SessionError]]],
        *,
        size: int,
        in_flight: int,
        lane_of: Callable[[str], str],
    ) -> None:
        super().__init__(call, size=size, in_flight=in_flight)
        self._lane_of = lane_of
        self._lanes: dict[str, Batcher[Item, Result]] = {}

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        for lane in list(self._lanes.values()):
            await lane.drain()

    def add(self, key: str, item: Item) -> Batch[Item, Result]:
        """Put an item into the next batch of its lane, and return that batch."""
        name = self._lane_of(key)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Batcher(self._call, size=self._size, in_flight=self._in_flight)
        return lane.add(key, item)


def batcher_for(
    storage: Storage, call: Callable[[list[Item]], Coroutine[Any, Any, Sequence[Result | SessionError]]]
) -> Batcher[Item, Result]:
    """The batcher for one kind of call to a storage."""
    size, in_flight = storage.batch_size, storage.batches_in_flight
    if type(storage).lane_of is Storage.lane_of:
        return Batcher(call, size=size, in_flight=in_flight)
    return LaneBatcher(call, size=size, in_flight=in_flight, lane_of=storage.lane_of)
