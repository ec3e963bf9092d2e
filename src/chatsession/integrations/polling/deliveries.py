"""Counts how often an update has taken the process down, and sets it aside in the end.

While nothing goes wrong, this writes twice: at the start, that a process is polling, and at a clean end, that none is.
A process that finds the first without the second knows that the one before it died, and that any update which is
delivered now may be the reason. One that may have been it twice is handled alone; if the process dies again, it was
that one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct, field

from chatsession.errors import SessionError, shown
from chatsession.integrations.polling.window import RawUpdate
from chatsession.manager import SessionManager
from chatsession.storages import Action, Change
from chatsession.unit_of_work.runtime import POLLING, SET_ASIDE

_log = logging.getLogger("chatsession")


class _Record(Struct):
    """What is stored of one bot's polling."""

    crashes: dict[int, int] = field(default_factory=dict[int, int])
    """How many processes may have died of an update, by its id."""
    alone: int | None = None
    """The update that is handled alone."""


class Deliveries:
    """The deliveries to one bot.

    Args:
        sessions: where the counts are kept.
        bot_id: of the bot.
        most: an update that has taken the process down so often is set aside.
    """

    def __init__(self, sessions: SessionManager[Any], bot_id: int, most: int) -> None:
        self._runtime = sessions.runtime
        self._bot_id = bot_id
        self._most = most
        self._suspect_from = min(2, most - 1)
        self._record = _Record()

    async def begin(self) -> bool:
        """A process begins to poll. Returns whether the one before it died."""
        await self._runtime.enter_loop()
        found = await self._runtime.coordinator.read(self._key)
        if found is None:
            await self._store()
            return False
        try:
            self._record = msgspec.json.decode(self._unpacked(found.value), type=_Record)
        except (msgspec.MsgspecError, SessionError) as error:
            _log.warning("%s cannot be read, so that deliveries are counted afresh: %s", shown(self._key), error)
        return True

    async def count(self, updates: Iterable[RawUpdate]) -> None:
        """These were delivered to a process that died, or have come since."""
        record, ids = self._record, [update["update_id"] for update in updates]
        blamed = ids if record.alone is None else [record.alone]
        crashes = {update_id: record.crashes.get(update_id, 0) + (update_id in blamed) for update_id in ids}
        self._record = _Record({update_id: count for update_id, count in crashes.items() if count})
        await self._store()

    def is_suspect(self, update: RawUpdate) -> bool:
        """Whether an update is handled alone, if at all."""
        return self._record.crashes.get(update["update_id"], 0) >= self._suspect_from

    async def set_aside(self, update: RawUpdate, to_json: Callable[[RawUpdate], bytes]) -> bool:
        """Set an update aside if it has taken the process down too often."""
        update_id: int = update["update_id"]
        crashes = self._record.crashes[update_id]
        if crashes < self._most:
            return False
        aside = f"{SET_ASIDE}{self._runtime.prefix}{self._bot_id}:{update_id}"
        await self._put(aside, to_json(update))
        _log.error(
            "update %d has taken the process down %d times, and was set aside under %s; see it by chatsession updates",
            update_id,
            crashes,
            shown(aside),
        )
        return True

    async def handle_alone(self, update: RawUpdate) -> None:
        """The next update is handled while no other is."""
        self._record.alone = update["update_id"]
        await self._store()

    async def handle_together(self) -> None:
        """From now on, updates are handled side by side; what they have to their account stays until they are done."""
        if self._record.alone is not None:
            self._record.alone = None
            await self._store()

    async def end(self) -> None:
        """A process has stopped as it should."""
        await self._runtime.coordinator.commit(Change(self._key, Action.DELETE))

    @property
    def _key(self) -> str:
        return f"{POLLING}{self._runtime.prefix}{self._bot_id}"

    async def _store(self) -> None:
        await self._put(self._key, msgspec.json.encode(self._record))

    async def _put(self, key: str, data: bytes) -> None:
        stored = self._runtime.serializer.pack(key, data, None, None)
        await self._runtime.coordinator.commit(Change(key, Action.PUT, stored))

    def _unpacked(self, stored: bytes) -> bytes:
        unpacked = self._runtime.serializer.unpack(self._key, stored)
        return stored if unpacked is None else unpacked.data
