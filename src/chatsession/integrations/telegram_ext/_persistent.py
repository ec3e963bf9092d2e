"""What an application with persisted data does beyond one with sessions; and all that is private of
python-telegram-bot and has no public way: each with its reason here, and with a test that names it.

- `_add_ch_to_persistence`: called for every persistent conversation, also for one added while the bot runs. It would
  give the handler states of its own, which are loaded once.
- `ConversationHandler._conversations`: where `check_update` looks (`_conversations`).
- `_mark_for_persistence_update`: gathers ids of chats and users for the next flush; there is none.
- `_initialized`: whether it is too late for a set-up; `running` is set later.
- `_chat_id` and `_user_id` of a context: whose data it has, where an application's own class finds that out.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from telegram import Message
from telegram.ext import Application, ConversationHandler

from chatsession.errors import SessionError
from chatsession.integrations.telegram_ext._application import AnyApplication, ServedApplication
from chatsession.integrations.telegram_ext._scope import Scope, loaded_data, running_data
from chatsession.integrations.telegram_ext._usage import usage_of
from chatsession.integrations.update_context import UpdateContext
from chatsession.integrations.update_scope import SessionBindings

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.telegram_ext._records import DataName

Hook = Callable[[AnyApplication], Coroutine[object, object, None]]

_log = logging.getLogger("chatsession")


class PersistentApplication(ServedApplication):
    """Comes before the class of an application whose data is loaded with each update."""

    __slots__ = ()

    @property
    def _persisted(self) -> SessionPersistence:
        persistence = self.served.persistence
        assert persistence is not None
        return persistence

    def keep_data(self) -> None:
        """Have the data of the running update where the data of everybody was."""
        persistence = self._persisted
        persistence.set_bot(self.bot)
        self.persistence = persistence
        if persistence.stored.callback_data:
            persistence.keyboards.serve(getattr(self.bot, "callback_data_cache", None))
        if persistence.stored.user_data:
            self.user_data = _DataOfUpdate(persistence, "user_data")
        if persistence.stored.chat_data:
            self.chat_data = _DataOfUpdate(persistence, "chat_data")
        self.post_init, self.post_stop = _in_unit(self.post_init), _in_unit(self.post_stop)

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

    def drop_user_data(self, user_id: int) -> None:
        if not self._drop("user_data", user_id):
            super().drop_user_data(user_id)

    def drop_chat_data(self, chat_id: int) -> None:
        if not self._drop("chat_data", chat_id):
            super().drop_chat_data(chat_id)

    def migrate_chat_data(
        self, message: Message | None = None, old_chat_id: int | None = None, new_chat_id: int | None = None
    ) -> None:
        persistence = self._persisted
        if not persistence.stored.chat_data:
            super().migrate_chat_data(cast("Any", message), cast("Any", old_chat_id), cast("Any", new_chat_id))
            return
        old, new = _moved(message, old_chat_id, new_chat_id)
        persistence.afterwards(lambda: persistence.move_chat(old, new))

    def _drop(self, name: DataName, id_: int) -> bool:
        """Forget the data of an id; `False`: it is not stored."""
        data, persistence = running_data(), self._persisted
        if not getattr(persistence.stored, name):
            return False
        if data is not None and (holder := data.holding(id_)) is not None:
            holder.drop(name, id_)
        else:
            persistence.afterwards(lambda: persistence.change(id_, name, None))
        return True


class _DataOfUpdate(Mapping[int, Any]):
    """Stands in the place where python-telegram-bot has the data of all users, or of all chats.

    Args:
        persistence: of the application.
        name: what it is.
    """

    def __init__(self, persistence: SessionPersistence, name: DataName) -> None:
        self._persistence = persistence
        self._name: DataName = name

    def __getitem__(self, id_: int) -> Any:
        return loaded_data(self._persistence, f"{self._name}[{id_}]").value(self._name, id_)

    def __iter__(self) -> Iterator[int]:
        raise self._not_loaded()

    def __len__(self) -> int:
        raise self._not_loaded()

    def _not_loaded(self) -> SessionError:
        return SessionError(
            f"{self._name} has no list of all ids: an update has the data of its own chat and user; "
            f"use `await application.persistence.get_{self._name}()`"
        )


@asynccontextmanager
async def open_persistence(
    application: AnyApplication, *, user_id: int | None = None, chat_id: int | None = None, bot_data: bool = False
) -> AsyncGenerator[None]:
    """Have persisted data in `application.user_data`, `chat_data` and `bot_data`, outside of any update or beside it.

    As an update does, this waits for the data, locks and loads it; it is stored when the block ends, and not if the
    block raises.

    Args:
        application: for which `setup_persistence` was called.
        user_id: whose `application.user_data[user_id]` to load.
        chat_id: whose `application.chat_data[chat_id]` to load.
        bot_data: whether to load `application.bot_data`.

    Raises:
        ValueError: `setup_persistence` was not called for the application.
        SessionError: the update in which this is called has the data already; use it there.

    Examples:
        >>> from telegram.ext import Application
        >>> async def order_paid(application: Application, user_id: int) -> None:
        ...     async with open_persistence(application, user_id=user_id):
        ...         application.user_data[user_id]["paid"] = True
    """
    if not isinstance(application, PersistentApplication):
        raise ValueError("open_persistence needs an application for which setup_persistence was called")
    served = application.served._replace(bindings=SessionBindings())
    around = running_data()
    ids = UpdateContext(chat_id=chat_id, user_id=user_id, bot_id=served.bot_id, update=None)
    async with Scope(served, ids) as scope:
        await scope.load_data(around)
        if bot_data and scope.data is not None:
            await scope.data.load_bot_data()
        yield


def _in_unit(hook: Hook | None) -> Hook | None:
    """Let a hook of the application use `bot_data`, if it does."""
    if hook is None:
        return None

    async def run(application: AnyApplication) -> None:
        uses = usage_of(hook, 0, application.context_types.context)
        async with open_persistence(application, bot_data=uses.bot_data):
            await hook(application)

    return run


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
