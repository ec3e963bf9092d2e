"""The states of persistent `ConversationHandler`s: those of an update's chat and user, stored with their data."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from telegram import Update
from telegram.ext import BaseHandler, ConversationHandler, Job

from chatsession.errors import SessionEncodeError, SessionError
from chatsession.integrations.telegram_ext._views import loaded_data

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._loaded import LoadedData
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.telegram_ext._records import Id, IdRecord, State

Key: TypeAlias = tuple[int | str, ...]
AnyConversation: TypeAlias = ConversationHandler[Any]

_END = ConversationHandler.END
_LATE = 1.0
"""Seconds by which a timer may be early, for clocks that differ."""


class Conversations:
    """All persistent conversations of an application, by name."""

    def __init__(self, persistence: SessionPersistence) -> None:
        self._persistence = persistence
        self._handlers: dict[str, AnyConversation] = {}

    def check(self, handler: object, others: Iterable[object]) -> None:
        """See that the states of a handler that is about to be added could be told from those of others.

        Raises:
            ValueError: another one has its name, or a conversation in it is not persistent.
        """
        if not isinstance(handler, ConversationHandler) or not handler.persistent:
            return
        conversation = cast("AnyConversation", handler)
        taken = {each.name: each for other in others for each in _with_inner(other) if each.persistent}
        for each in _with_inner(conversation):
            if not each.persistent:
                raise ValueError(
                    f"the ConversationHandler {each.name!r} inside of the persistent {conversation.name!r} "
                    "is not persistent; give it a name and persistent=True"
                )
            if taken.setdefault(each.name, each) is not each:
                raise ValueError(
                    f"two persistent ConversationHandlers have the name {each.name!r}, and would change each other's "
                    "states; give each a name of its own"
                )

    def serve(self, handler: AnyConversation) -> None:
        """Keep the states of a handler, and of those inside of it."""
        for each in _with_inner(handler):
            assert each.name is not None
            self._handlers[each.name] = each
            # python-telegram-bot has no other place where `check_update` would look.
            each._conversations = cast("Any", _States(self, each.name))

    def home(self, name: str, key: Key) -> Id:
        """The id under which the state of a conversation is kept: of its user, or else of its chat or message."""
        handler = self._handlers.get(name)
        if handler is None:
            raise SessionError(f"no persistent ConversationHandler of this application has the name {name!r}")
        if handler.per_user:
            return key[1 if handler.per_chat else 0]
        return key[0] if handler.per_chat else f"message:{key[0]}"

    @property
    def follow_chats(self) -> bool:
        """Whether there are conversations whose key has a chat."""
        return any(handler.per_chat for handler in self._handlers.values())

    def message_id(self, update: Update) -> str | None:
        """The id of the message to which an update belongs, if there are conversations of messages alone."""
        query = update.callback_query
        if query is None or not any(not each.per_user and not each.per_chat for each in self._handlers.values()):
            return None
        message_id = query.inline_message_id or (query.message and query.message.message_id)
        return f"message:{message_id}"

    def put(self, record: IdRecord, name: str, key: Key, state: object | None) -> None:
        """Let a conversation have a state; `None`: it is over.

        Raises:
            SessionEncodeError: there is no such state in JSON.
        """
        written = _written(key)
        if state is None or state == _END:
            states = record.conversations.get(name, {})
            states.pop(written, None)
            if not states:
                record.conversations.pop(name, None)
            return
        if isinstance(state, int):
            state = int(state)
        elif isinstance(state, str):
            state = str.__str__(state)
        else:
            raise SessionEncodeError(
                f"the conversation {name!r} went to a state of type {type(state).__name__}; only states of type str "
                "and int can be stored (an IntEnum's and a StrEnum's members are such); nothing was written",
                key=self._persistence.key(self.home(name, key)),
            )
        record.conversations.setdefault(name, {})[written] = state

    def settle(self, data: LoadedData, results: Mapping[asyncio.Task[Any] | None, object]) -> None:
        """Before a commit: know how conversations went on that ran with `block=False`, and when they time out.

        Args:
            data: of the update.
            results: of the tasks that belong to it.
        """
        for (name, written), promise in data.pending.items():
            key: Key = tuple(msgspec.json.decode(written))
            state = results.get(promise.task)
            if state is None:
                state = _END if promise.old_state is None else promise.old_state
            self._put(data, name, key, state)
        data.pending.clear()
        for name, key in data.timed:
            self._note_timeout(data, name, key)

    def is_over(self, data: LoadedData, job: Job[Any]) -> bool:
        """Whether a conversation has timed out when its timer says so; it may have gone on in another process."""
        handler, key = timer_of(job)
        if handler is None or handler.name not in self._handlers:
            return True
        state = self._state(data, handler.name, key)
        over = state is not None and (not isinstance(state, tuple) or state[1] <= data.persistence.now() + _LATE)
        if not over and handler.timeout_jobs.get(key) is job:
            del handler.timeout_jobs[key]
        return over

    def loaded(self, name: str) -> LoadedData:
        """The data of the running update. Raises `SessionError` if there is none."""
        return loaded_data(self._persistence, f"the state of the conversation {name!r}")

    def get(self, name: str, key: Key) -> object:
        """The state of a conversation in the running update. Raises `KeyError` if there is none."""
        data = self.loaded(name)
        if (pending := data.pending.get((name, _written(key)))) is not None:
            return pending
        if self._handlers[name].conversation_timeout:
            data.timed.add((name, key))
        state = self._state(data, name, key)
        if state is None:
            raise KeyError(key)
        if not isinstance(state, tuple):
            return state
        if state[1] > data.persistence.now() or key in self._handlers[name].timeout_jobs:
            return state[0]
        self._put(data, name, key, None)  # its timer went with its process
        raise KeyError(key)

    def set(self, name: str, key: Key, state: object) -> None:
        """A conversation of the running update goes on."""
        data = self.loaded(name)
        if hasattr(state, "old_state"):  # python-telegram-bot's promise of a state
            data.pending[name, _written(key)] = state
            return
        data.pending.pop((name, _written(key)), None)
        self._put(data, name, key, state)

    def _put(self, data: LoadedData, name: str, key: Key, state: object | None) -> None:
        self.put(data.record(self.home(name, key), name), name, self._followed(data, name, key), state)

    def _state(self, data: LoadedData, name: str, key: Key) -> State | None:
        followed = self._followed(data, name, key)
        return (
            data.record(self.home(name, key), f"conversation {name!r}")
            .conversations.get(name, {})
            .get(_written(followed))
        )

    def _followed(self, data: LoadedData, name: str, key: Key) -> Key:
        """The key of a conversation, in the supergroup that its group became.

        A state that is still under the key of the group gets the new key: the states of a group's members are with
        the members, so that they cannot all move with the group.
        """
        moved = data.moved(key[0]) if self._handlers[name].per_chat else None
        if moved is None:
            return key
        old, new = (_written((chat, *key[1:])) for chat in moved)
        states = data.record(self.home(name, key), name).conversations.get(name, {})
        if old in states:
            states[new] = states.pop(old)
        return (moved[1], *key[1:])

    def _note_timeout(self, data: LoadedData, name: str, key: Key) -> None:
        """Store with the state when it ends, so that other processes know."""
        state, job = self._state(data, name, key), self._handlers[name].timeout_jobs.get(key)
        if state is None or job is None or job.next_t is None:
            return
        left = (job.next_t - datetime.datetime.now(datetime.UTC)).total_seconds()
        ends = data.persistence.now() + left
        plain, before = state if isinstance(state, tuple) else (state, 0.0)
        if ends > before + _LATE:
            states = data.record(self.home(name, key), name).conversations[name]
            states[_written(self._followed(data, name, key))] = (plain, ends)


class _States(MutableMapping[Key, object]):
    """Stands in the place where a `ConversationHandler` has its states, and has those of the running update."""

    def __init__(self, conversations: Conversations, name: str) -> None:
        self._conversations = conversations
        self._name = name

    def __getitem__(self, key: Key) -> object:
        return self._conversations.get(self._name, key)

    def __setitem__(self, key: Key, state: object) -> None:
        self._conversations.set(self._name, key, state)

    def __delitem__(self, key: Key) -> None:
        self._conversations.set(self._name, key, None)

    def __iter__(self) -> Iterator[Key]:
        data = self._conversations.loaded(self._name)
        for id_ in data.ids:
            for written in data.record(id_, self._name).conversations.get(self._name, {}):
                yield tuple(msgspec.json.decode(written))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def timer_of(job: Job[Any]) -> tuple[AnyConversation | None, Key]:
    """The conversation whose timer a job is."""
    handler: object = getattr(job.callback, "__self__", None)
    key: Any = getattr(job.data, "conversation_key", ())
    return (cast("AnyConversation", handler), key) if isinstance(handler, ConversationHandler) else (None, ())


def _with_inner(handler: object) -> Iterator[AnyConversation]:
    """A conversation, and those inside of it; nothing if it is another handler."""
    if not isinstance(handler, ConversationHandler):
        return
    conversation = cast("AnyConversation", handler)
    yield conversation
    inner: list[BaseHandler[Any, Any, Any]] = [*conversation.entry_points, *conversation.fallbacks]
    for handlers in conversation.states.values():
        inner += handlers
    for each in {id(each): each for each in inner}.values():
        yield from _with_inner(each)


def _written(key: Key) -> str:
    return msgspec.json.encode(key).decode()
