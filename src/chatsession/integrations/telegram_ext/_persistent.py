"""What an application with persisted data does beyond one with sessions; and all that is private of
python-telegram-bot and has no public way: each with its reason here, and with a test that names it.

- `_add_ch_to_persistence`: called for every persistent conversation, also for one added while the bot runs. It would
  give the handler states of its own, which are loaded once.
- `ConversationHandler._conversations`: where `check_update` looks (`_telegram_ext_conversations`).
- `_mark_for_persistence_update`: gathers ids of chats and users for the next flush; there is none.
- `_initialized`: whether it is too late for a set-up; `running` is set later.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from telegram import Message
from telegram.ext import Application, ConversationHandler

from chatsession.integrations.telegram_ext._application import AnyApplication, ServedApplication
from chatsession.integrations.telegram_ext._bot_data import lock_where_used
from chatsession.integrations.telegram_ext._shared_scope import shared_scope
from chatsession.integrations.telegram_ext._views import DataOfUpdate, loaded_data

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.telegram_ext._records import DataName

_log = logging.getLogger("chatsession")


class PersistentApplication(ServedApplication):
    """Comes before the class of an application whose data is loaded with each update."""

    __slots__ = ()

    @property
    def _persisted(self) -> SessionPersistence:
        persistence = self.served.persistence
        assert persistence is not None
        return persistence

    async def initialize(self) -> None:
        await super().initialize()
        for handler in [handler for handlers in self.handlers.values() for handler in handlers]:
            if isinstance(handler, ConversationHandler) and not handler.persistent:
                name = cast("Any", handler).name
                _log.warning(
                    "the ConversationHandler %r is not persistent: its states are lost at restart, and unknown to "
                    "other processes; give it a name and persistent=True",
                    name,
                )

    def add_handler(self, handler: Any, group: int = 0) -> None:
        self._persisted.conversations.check(handler, [each for others in self.handlers.values() for each in others])
        self.lock_bot_data_for(handler)
        super().add_handler(handler, group)

    async def _add_ch_to_persistence(self, handler: ConversationHandler[Any]) -> None:
        self._persisted.conversations.serve(handler)

    def _mark_for_persistence_update(self, *, update: object = None, job: object = None) -> None:
        pass

    async def update_persistence(self) -> None:
        await self._persisted.flush()

    @property
    def bot_data(self) -> Any:
        if not self._persisted.stored.bot_data:
            return cast("Any", Application).bot_data.__get__(self)
        return loaded_data(self._persisted, "bot_data").bot_data

    @bot_data.setter
    def bot_data(self, value: Any) -> None:
        cast("Any", Application).bot_data.__set__(self, value)

    def keep_data(self) -> None:
        """Have the data of the running update where the data of everybody was."""
        persistence = self._persisted
        persistence.set_bot(self.bot)
        self.persistence = persistence
        for handler in [handler for handlers in self.handlers.values() for handler in handlers]:
            self.lock_bot_data_for(handler)
        if persistence.stored.callback_data:
            persistence.keyboards.serve(getattr(self.bot, "callback_data_cache", None))
        if persistence.stored.user_data:
            self.user_data = DataOfUpdate(persistence, "user_data")
        if persistence.stored.chat_data:
            self.chat_data = DataOfUpdate(persistence, "chat_data")

    def lock_bot_data_for(self, handler: object) -> None:
        """Lock `bot_data` for a handler that uses it, while it runs."""
        if self._persisted.stored.bot_data:
            lock_where_used(handler, self.context_types.context)

    def drop_user_data(self, user_id: int) -> None:
        if self._persisted.stored.user_data:
            self._drop("user_data", user_id)
        else:
            super().drop_user_data(user_id)

    def drop_chat_data(self, chat_id: int) -> None:
        if self._persisted.stored.chat_data:
            self._drop("chat_data", chat_id)
        else:
            super().drop_chat_data(chat_id)

    def migrate_chat_data(
        self, message: Message | None = None, old_chat_id: int | None = None, new_chat_id: int | None = None
    ) -> None:
        persistence = self._persisted
        if not persistence.stored.chat_data:
            super().migrate_chat_data(cast("Any", message), cast("Any", old_chat_id), cast("Any", new_chat_id))
            return
        old, new = _moved(message, old_chat_id, new_chat_id)
        self._afterwards(lambda: persistence.move_chat(old, new))

    def _drop(self, name: DataName, id_: int) -> None:
        shared, persistence = shared_scope.get(), self._persisted
        if shared is None or shared.data is None or not shared.data.drop(name, id_):
            self._afterwards(lambda: persistence.change(id_, name, None))

    def _afterwards(self, action: Any) -> None:
        """Do something to other data than what is loaded: after the update, or at once if there is none."""
        shared = shared_scope.get()
        if shared is None or shared.data is None or shared.ended:
            self._persisted.soon(action)
        else:
            shared.data.afterwards.append(action)


def is_initialized(application: AnyApplication) -> bool:
    """Whether an application may have handled updates already."""
    return application._initialized


def _moved(message: Message | None, old: int | None, new: int | None) -> tuple[int, int]:
    """As `Application.migrate_chat_data` takes its arguments. Raises `ValueError` as that does."""
    if message is not None and (old is not None or new is not None):
        raise ValueError("Message and chat_id pair are mutually exclusive")
    if message is not None:
        if message.migrate_from_chat_id is None and message.migrate_to_chat_id is None:
            raise ValueError(
                "Invalid message instance. The message must have either `Message.migrate_from_chat_id` or "
                "`Message.migrate_to_chat_id`."
            )
        return message.migrate_from_chat_id or message.chat.id, message.migrate_to_chat_id or message.chat.id
    if old is None and new is None:
        raise ValueError("chat_id pair or message must be passed")
    if not (isinstance(old, int) and isinstance(new, int)):
        raise ValueError("old_chat_id and new_chat_id must be integers")
    return old, new
