"""Counts how often an update may have crashed the process, and sets it aside in the end.

Without a crash there are two writes: at the start, that a process polls, and at a clean end, that it has stopped. A
process that finds the first without the second knows that its predecessor crashed, and that each update which is
delivered now may be the reason. An update that may have been the reason twice is handled alone. If the process crashes
again, this update was the reason.
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
    """The stored state of one bot's polling."""

    crashes: dict[int, int] = field(default_factory=dict[int, int])
    """How many crashes an update may have caused, by its id."""
    alone: int | None = None
    """The id of the update that is handled alone."""


class Deliveries:
    """The crashes of one bot, and the updates that may have caused them.

    Args:
        sessions: the manager in whose storage they are counted.
        bot_id: the id of the bot.
        most: the number of crashes after which an update is set aside.
    """

    def __init__(self, sessions: SessionManager[Any], bot_id: int, most: int) -> None:
        self._runtime = sessions.runtime
        self._bot_id = bot_id
        self._most = most
        self._suspect_from = min(2, most - 1)
        self._record = _Record()

    async def begin(self) -> bool:
        """Note that this process polls. Returns whether its predecessor crashed."""
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
        """Count the crash for the updates that are delivered after it."""
        record, ids = self._record, [update["update_id"] for update in updates]
        blamed = ids if record.alone is None else [record.alone]
        crashes = {update_id: record.crashes.get(update_id, 0) + (update_id in blamed) for update_id in ids}
        self._record = _Record({update_id: count for update_id, count in crashes.items() if count})
        await self._store()

    def is_suspect(self, update: RawUpdate) -> bool:
        """Whether an update must be handled alone, or set aside."""
        return self._record.crashes.get(update["update_id"], 0) >= self._suspect_from

    async def set_aside(self, update: RawUpdate, to_json: Callable[[RawUpdate], bytes]) -> bool:
        """Set an update aside if it has crashed the process too often. Returns whether it was."""
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
        """Note that this update is handled next, while no other is."""
        self._record.alone = update["update_id"]
        await self._store()

    async def handle_together(self) -> None:
        """Note that updates run in parallel from now on. Their counts stay until a clean end."""
        if self._record.alone is not None:
            self._record.alone = None
            await self._store()

    async def end(self) -> None:
        """Note a clean end."""
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
