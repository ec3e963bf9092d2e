"""The data that one update has loaded, of its chat, its user and the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from chatsession.errors import SessionError
from chatsession.integrations.telegram_ext._records import DataName, Id, IdRecord
from chatsession.unit_of_work.group import begin_all
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.update_context import UpdateContext

_BOT = "bot_data"
"""Stands for the bot among the ids."""


class LoadedData:
    """The data of one update, of one run of a job, or of an error handler.

    Args:
        persistence: of the application.
        ctx: where the update comes from.
        outer: the data of the update inside of which this is loaded, if there is one.
    """

    def __init__(self, persistence: SessionPersistence, ctx: UpdateContext, outer: LoadedData | None = None) -> None:
        self.pending: dict[tuple[str, tuple[int | str, ...]], Any] = {}
        """Conversations whose handler runs with `block=False`: by name and key, python-telegram-bot's promise."""
        self.timed: set[tuple[str, tuple[int | str, ...]]] = set()
        """Conversations with a timeout that were looked at, by name and key."""
        self.afterwards: list[Callable[[], Coroutine[Any, Any, object]]] = []
        """What else to do once the update is stored."""
        self.under_way: list[asyncio.Task[None]] = []
        """What the update has begun and must be done before it is."""
        self._persistence = persistence
        self._ctx = ctx
        self._outer = outer
        self._units: dict[Id, UnitOfWork[Any]] = {}
        """Those that are locked and loaded."""
        self._values: dict[tuple[Id, DataName], Any] = {}
        """What was given out; it is put into the records before they are stored."""
        self._released = False

    @property
    def units(self) -> list[UnitOfWork[Any]]:
        """To be ended together with the sessions of the update."""
        return list(self._units.values())

    @property
    def ids(self) -> list[Id]:
        """Those that are loaded."""
        return [id_ for id_ in self._units if id_ != _BOT]

    async def load(self, *ids: Id | None) -> None:
        """Lock and read, in one trip if nobody else has any of it."""
        new = dict.fromkeys(id_ for id_ in ids if id_ is not None and id_ not in self._units)
        units = {id_: self._persistence.unit(id_, self._ctx) for id_ in new}
        if len(units) == 1:
            await next(iter(units.values())).begin()
        elif units:
            await begin_all(list(units.values()))
        self._units |= units

    async def load_bot_data(self) -> None:
        """Lock and load `bot_data`, unless this update has it."""
        if self.holding(_BOT) is None:
            unit = self._persistence.bot_unit(self._ctx)
            await unit.begin()
            self._units[_BOT] = unit
            if "bot_data" in self._persistence.refreshed:
                await self._persistence.refresh_bot_data(unit.data)

    async def refresh(self, chat_id: int | None, user_id: int | None) -> None:
        """Let the persistence bring in what other programs know of the chat and the user."""
        persistence = self._persistence
        if chat_id is not None and "chat_data" in persistence.refreshed:
            await persistence.refresh_chat_data(chat_id, self.value("chat_data", chat_id))
        if user_id is not None and "user_data" in persistence.refreshed:
            await persistence.refresh_user_data(user_id, self.value("user_data", user_id))

    def holding(self, id_: Id) -> LoadedData | None:
        """The data that has an id loaded: this, or that of the update around it."""
        if id_ in self._units:
            return self
        return None if self._outer is None else self._outer.holding(id_)

    def record(self, id_: Id, what: str) -> IdRecord:
        """What is stored under an id. Raises `SessionError` if it is not loaded."""
        return self._holder(id_, what)._units[id_].data

    def value(self, name: DataName, id_: int) -> Any:
        """The `user_data` or `chat_data` of an id; raises as `record`."""
        holder = self._holder(id_, f"{name}[{id_}]")
        values = holder._values
        if (id_, name) not in values:
            stored = getattr(holder._units[id_].data, name)
            values[id_, name] = self._persistence.fresh(name) if stored is None else stored
        return values[id_, name]

    @property
    def bot_data(self) -> Any:
        """The `bot_data`. Raises `SessionError` if it is not locked for this handler."""
        holder = self.holding(_BOT)
        if holder is None:
            raise SessionError(
                "bot_data is not locked for this handler, since no code was found by which it would use it; "
                "use `async with open_persistence(application, bot_data=True)`"
            )
        return holder._units[_BOT].data

    def drop(self, name: DataName, id_: int) -> None:
        """Forget the `user_data` or `chat_data` of an id that this has loaded."""
        setattr(self._units[id_].data, name, None)
        self._values.pop((id_, name), None)

    def settle(self, results: Mapping[asyncio.Task[Any] | None, object]) -> None:
        """For the end: know how conversations went on, and let nothing be stored under ids that have nothing left.

        Args:
            results: of the tasks that belong to the update.
        """
        self._persistence.conversations.settle(self, results)
        self._put_values()
        for id_, unit in self._units.items():
            if unit.touched and not self._released and self._is_empty(id_):
                unit.data = None

    async def finish(self) -> None:
        """Wait for what the update has begun."""
        if self.under_way:
            await asyncio.wait(self.under_way)

    async def save(self) -> None:
        """Commit now what has changed, and go on."""
        self._put_values()
        for id_, unit in self._units.items():
            if not self._has_nothing(id_):
                await unit.save()

    async def release(self) -> None:
        """Commit now what has changed, and let the next update in."""
        self._put_values()
        for id_, unit in self._units.items():
            if self._has_nothing(id_):
                unit.write_nothing()
            await unit.release()
        self._released = True

    def _holder(self, id_: Id, what: str) -> LoadedData:
        holder = self.holding(id_)
        if holder is None:
            raise SessionError(
                f"{what} is not loaded: an update has the data of its own chat and user; "
                "use `async with open_persistence(application, …)` for that of others"
            )
        return holder

    def _put_values(self) -> None:
        """Put into the records what was given out, unless it was only looked at."""
        for (id_, name), value in self._values.items():
            record = self._units[id_].data
            empty = self._persistence.is_empty(name, value, made=getattr(record, name) is None)
            setattr(record, name, None if empty else value)

    def _has_nothing(self, id_: Id) -> bool:
        """Whether nothing is stored, and there is nothing to store."""
        unit = self._units[id_]
        return unit.touched and not unit.exists and self._is_empty(id_)

    def _is_empty(self, id_: Id) -> bool:
        unit = self._units[id_]
        if id_ == _BOT:
            return self._persistence.is_empty("bot_data", unit.data, made=not unit.exists)
        return unit.data.empty
