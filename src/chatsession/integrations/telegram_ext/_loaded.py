"""The data that one update has loaded, of its chat, its user and the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chatsession.errors import SessionClosedError, SessionError
from chatsession.integrations.telegram_ext._records import DataName, Id, IdRecord
from chatsession.unit_of_work.group import begin_all
from chatsession.unit_of_work.unit import UnitOfWork

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.update_context import UpdateContext

_NAMES: tuple[DataName, ...] = ("user_data", "chat_data")


class LoadedData:
    """The data of one update, of one run of a job, or of an error handler.

    Args:
        persistence: of the application.
        chat_id: of the update, if it has a chat.
        user_id: of the update, if it has a user.
        message_id: of the update, if there are conversations of messages alone.
        ctx: where the update comes from.
        outer: the data of the update inside of which this is loaded, if there is one.
    """

    def __init__(
        self,
        persistence: SessionPersistence,
        chat_id: int | None,
        user_id: int | None,
        message_id: str | None,
        ctx: UpdateContext,
        outer: LoadedData | None = None,
    ) -> None:
        self.persistence = persistence
        self.pending: dict[tuple[str, str], Any] = {}
        """Conversations whose handler runs with `block=False`: by name and key, python-telegram-bot's promise."""
        self.timed: set[tuple[str, Any]] = set()
        """Conversations with a timeout that were looked at, by name and key."""
        self.afterwards: list[Callable[[], Coroutine[Any, Any, object]]] = []
        """What else to do once the update is stored."""
        self.under_way: list[asyncio.Task[None]] = []
        """What the update has begun and must be done before it is."""
        self._ctx = ctx
        self._outer = outer
        self._bot: UnitOfWork[Any] | None = None
        self._chat_id = chat_id
        self._user_id = user_id
        ids: list[Id | None] = [chat_id, user_id, message_id]
        self._units: dict[Id, UnitOfWork[IdRecord]] = {
            id_: persistence.unit(id_, ctx) for id_ in ids if id_ is not None
        }
        self._made: set[tuple[Id, DataName]] = set()
        self._loaded = False
        self._ended = False
        self._released = False

    @property
    def units(self) -> list[UnitOfWork[Any]]:
        """To be ended together with the sessions of the update."""
        units: list[UnitOfWork[Any]] = list(self._units.values()) if self._loaded else []
        return units if self._bot is None else [*units, self._bot]

    @property
    def ids(self) -> list[Id]:
        """Those that are loaded."""
        return list(self._units) if self._loaded and not self._ended else []

    async def load(self) -> None:
        """Lock and read, in one trip if nobody else has any of it."""
        units = list(self._units.values())
        if len(units) == 1:
            await units[0].begin()
        else:
            await begin_all(units)
        self._loaded = True

    def end(self) -> None:
        """Let nobody use it any more."""
        self._ended = True

    async def refresh(self) -> None:
        """Let the persistence bring in what other programs know of the chat and the user."""
        persistence, chat_id, user_id = self.persistence, self._chat_id, self._user_id
        if chat_id is not None and persistence.refreshes_chat_data:
            await persistence.refresh_chat_data(chat_id, self.value("chat_data", chat_id))
        if user_id is not None and persistence.refreshes_user_data:
            await persistence.refresh_user_data(user_id, self.value("user_data", user_id))

    def record(self, id_: Id, what: str) -> IdRecord:
        """What is stored under an id.

        Raises:
            SessionError: it is not loaded, or not any more.
        """
        self._check_running(what)
        unit = self._units.get(id_) if self._loaded else None
        if unit is None and self._outer is not None:
            return self._outer.record(id_, what)
        if unit is None:
            raise SessionError(
                f"{what} is not loaded: an update has the data of its own chat and user; "
                "use `async with open_persistence(application, …)` for that of others"
            )
        return unit.data

    def value(self, name: DataName, id_: int) -> Any:
        """The `user_data` or `chat_data` of an id; raises as `record`."""
        record = self.record(id_, f"{name}[{id_}]")
        value = getattr(record, name)
        if value is None:
            value = self.persistence.fresh(name)
            setattr(record, name, value)
            self._made.add((id_, name))
        return value

    async def load_bot_data(self) -> None:
        """Lock and load `bot_data`, unless this update has it."""
        outer = self._outer
        if self._bot is not None or (outer is not None and outer._bot is not None):
            return
        self._check_running("bot_data")
        bot = self.persistence.bot_unit(self._ctx)
        await bot.begin()
        self._bot = bot
        if self.persistence.refreshes_bot_data:
            await self.persistence.refresh_bot_data(bot.data)

    @property
    def bot_data(self) -> Any:
        """The `bot_data`.

        Raises:
            SessionError: it is not locked for this handler.
        """
        self._check_running("bot_data")
        if self._bot is not None:
            return self._bot.data
        if self._outer is not None:
            return self._outer.bot_data
        raise SessionError(
            "bot_data is not locked for this handler, since no code was found by which it would use it; "
            "use `async with open_persistence(application, bot_data=True)`"
        )

    def moved(self, chat_id: Id) -> tuple[int, int] | None:
        """The ids of a group and of the supergroup that it became, if the chat is one and is loaded."""
        return self.record(chat_id, f"chat {chat_id}").moved if chat_id in self.ids else None

    def _check_running(self, what: str) -> None:
        if self._ended:
            raise SessionClosedError(
                f"{what} is used after its update was done, so that a change would be lost; "
                "await what you start, or use open_persistence()"
            )

    def drop(self, name: DataName, id_: int) -> bool:
        """Forget the `user_data` or `chat_data` of an id; `False` if it is not loaded."""
        if id_ not in self.ids:
            return False
        setattr(self.record(id_, name), name, None)
        return True

    def settle(self, results: Mapping[asyncio.Task[Any] | None, object]) -> None:
        """For the end: know how conversations went on, and let nothing be stored under ids that have nothing left.

        Args:
            results: of the tasks that belong to the update.
        """
        self.persistence.conversations.settle(self, results)
        self._ended = True
        self._take_out_empty()
        for unit in self._units.values():
            if unit.touched and unit.value is not None and not self._released and unit.data.empty:
                unit.data = None
        if (bot := self._bot) is None or self._released or not bot.touched:
            return
        if self.persistence.is_empty("bot_data", bot.value, made=not bot.exists):
            bot.data = None

    async def finish(self) -> None:
        """Wait for what the update has begun."""
        if self.under_way:
            await asyncio.wait(self.under_way)

    async def save(self) -> None:
        """Commit now what has changed, and go on."""
        with self._without_empty():
            for unit in self.units:
                if not self._has_nothing(unit):
                    await unit.save()

    async def release(self) -> None:
        """Commit now what has changed, and let the next update in."""
        with self._without_empty():
            for unit in self.units:
                if self._has_nothing(unit):
                    unit.write_nothing()
                await unit.release()
        self._released = True

    def _has_nothing(self, unit: UnitOfWork[Any]) -> bool:
        """Whether nothing is stored, and there is nothing to store."""
        if unit.exists or not unit.touched:
            return False
        return self.persistence.is_empty("bot_data", unit.data, made=True) if unit is self._bot else unit.data.empty

    @contextmanager
    def _without_empty(self) -> Generator[None]:
        taken_out = self._take_out_empty()
        try:
            yield
        finally:
            for record, name, value in taken_out:
                setattr(record, name, value)

    def _take_out_empty(self) -> list[tuple[IdRecord, DataName, object]]:
        """Take out what was only looked at, which is not stored."""
        taken_out: list[tuple[IdRecord, DataName, object]] = []
        for id_, unit in self._units.items():
            if not unit.touched or unit.value is None:
                continue
            record: IdRecord = unit.data
            for name in _NAMES:
                value = getattr(record, name)
                if self.persistence.is_empty(name, value, made=(id_, name) in self._made):
                    taken_out.append((record, name, value))
                    setattr(record, name, None)
        return taken_out
