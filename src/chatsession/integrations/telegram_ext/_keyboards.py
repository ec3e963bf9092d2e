"""Arbitrary `callback_data`: each keyboard that the bot has sent is a record of its own, for the process that gets the
answer.

python-telegram-bot keeps them in a cache of bounded size and looks there when an update is fetched, which cannot wait
for a storage. Here a keyboard is stored at once when it is sent, and looked up when its update is handled.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct, defstruct
from telegram import CallbackQuery, InlineKeyboardMarkup, Message, Update
from telegram.ext import CallbackDataCache

from chatsession.integrations.telegram_ext._scope import running_data
from chatsession.manager import SessionManager

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence

    _Base = CallbackDataCache
else:
    _Base = object

_UUIDS = 64
"""Letters of what stands for the data of a button: the keyboard's UUID, and the button's."""


class Keyboard(Struct):
    """The data of a keyboard's buttons, by their UUIDs."""

    sent_at: float
    buttons: dict[str, Any]


def keyboard_type(data: Any) -> type[Struct]:
    """`Keyboard`, with the type of the data of buttons."""
    return defstruct("Keyboard", [("sent_at", float), ("buttons", dict[str, data])], bases=(Keyboard,))


class Keyboards:
    """All keyboards of an application.

    Args:
        manager: of the records.
        persistence: of the application.
    """

    def __init__(self, manager: SessionManager[Any], persistence: SessionPersistence) -> None:
        self.manager = manager
        self._type: Any = manager.options.type
        self._persistence = persistence
        self._cache: CallbackDataCache | None = None
        self._being_stored: dict[str, Keyboard] = {}

    def serve(self, cache: CallbackDataCache | None) -> None:
        """Be where a bot's cache looks, if the bot has one."""
        if cache is not None:
            kind = type(cache)
            cache.__class__ = type(kind.__name__, (_StoredCache, kind), {"__slots__": (), "keyboards": self})
            self._cache = cache

    async def insert(self, update: object) -> None:
        """Give an update the objects for which its callback data stands."""
        query = update.callback_query if isinstance(update, Update) else None
        if query is None or self._cache is None:
            return
        uuids = {data[:32] for data in _datas(query)}
        found = await asyncio.gather(*[self._find(uuid) for uuid in uuids])
        known = [(uuid, each.sent_at, each.buttons) for uuid, each in zip(uuids, found, strict=True) if each]
        of_query = isinstance(query.data, str) and any(query.data.startswith(uuid) for uuid, _, _ in known)
        self._cache.load_persistence_data((known, {query.id: str(query.data)[:32]} if of_query else {}))
        # Only what is stored counts: another process may have dropped what this one has in memory.
        CallbackDataCache(self._cache.bot, len(uuids) + 1, (known, {})).process_callback_query(query)

    async def _find(self, uuid: str) -> Keyboard | None:
        return self._being_stored.get(uuid) or await self.manager.get(uuid)

    def sent(self, before: InlineKeyboardMarkup, after: InlineKeyboardMarkup) -> None:
        """Store a keyboard that is being sent; the update that sends it waits for that.

        Raises:
            SessionEncodeError: the data of a button cannot be stored.
        """
        buttons: dict[str, Any] = {}
        uuid = ""
        for given, made in zip(_buttons(before), _buttons(after), strict=True):
            if given.callback_data is not None:
                uuid, button = CallbackDataCache.extract_uuids(str(made.callback_data))
                buttons[button] = given.callback_data
        keyboard = self._type(time.time(), buttons)
        self.manager.runtime.serializer.dumps(self.manager.runtime.prefix + uuid, keyboard, None)
        self._being_stored[uuid] = keyboard
        task = self._persistence.soon(lambda: self.manager.put(uuid, keyboard))
        if task is None:
            return
        task.add_done_callback(lambda _: self._being_stored.pop(uuid))
        if (data := running_data()) is not None:
            data.under_way.append(task)

    async def put(self, uuid: str, sent_at: float, buttons: dict[str, Any]) -> None:
        """Store a keyboard."""
        await self.manager.put(uuid, self._type(sent_at, buttons))

    def dropped(self, uuid: str) -> None:
        """Forget a keyboard, with the update that does so."""
        self._persistence.afterwards(lambda: self.manager.delete(uuid))

    def cleared(self, sent_before: float | None) -> None:
        """Forget all keyboards, or those that were sent before some time."""
        self._persistence.soon(lambda: self._clear(sent_before))

    async def _clear(self, sent_before: float | None) -> None:
        async for uuid, keyboard in self.manager.entries():
            if sent_before is None or keyboard.sent_at < sent_before:
                await self.manager.delete(uuid)


class _StoredCache(_Base):
    """Comes before the class of a bot's `CallbackDataCache`."""

    __slots__ = ()
    keyboards: ClassVar[Keyboards]

    def process_keyboard(self, reply_markup: InlineKeyboardMarkup) -> InlineKeyboardMarkup:
        made = super().process_keyboard(reply_markup)
        if made is not reply_markup:
            self.keyboards.sent(reply_markup, made)
        return made

    def process_callback_query(self, callback_query: CallbackQuery) -> None:
        """Called when an update is fetched; `Keyboards.insert` does it when the update is handled."""

    def drop_data(self, callback_query: CallbackQuery) -> None:
        before = {uuid for uuid, _, _ in self.persistence_data[0]}
        super().drop_data(callback_query)
        for uuid in before - {uuid for uuid, _, _ in self.persistence_data[0]}:
            self.keyboards.dropped(uuid)

    def clear_callback_data(self, time_cutoff: float | datetime.datetime | None = None) -> None:
        super().clear_callback_data(time_cutoff)
        if isinstance(time_cutoff, datetime.datetime):
            aware = time_cutoff if time_cutoff.tzinfo else time_cutoff.replace(tzinfo=datetime.UTC)
            time_cutoff = aware.timestamp()
        self.keyboards.cleared(time_cutoff)


def _buttons(markup: InlineKeyboardMarkup) -> Iterator[Any]:
    for row in markup.inline_keyboard:
        yield from row


def _datas(query: CallbackQuery) -> Iterator[str]:
    """What stands for the data of buttons, in all that comes with a callback query."""
    if isinstance(query.data, str):
        yield query.data
    message = query.message
    if not isinstance(message, Message):
        return
    for each in (message, message.pinned_message, message.reply_to_message):
        if isinstance(each, Message) and each.reply_markup is not None:
            for button in _buttons(each.reply_markup):
                if isinstance(button.callback_data, str) and len(button.callback_data) == _UUIDS:
                    yield button.callback_data
