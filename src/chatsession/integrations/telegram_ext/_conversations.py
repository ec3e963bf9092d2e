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
from chatsession.integrations.telegram_ext._scope import loaded_data

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
        self._states: dict[str, States] = {}

    def check(self, handler: object, others: Iterable[object]) -> None:
        """See that the states of a handler that is about to be added could be told from those of others.

        Raises:
            ValueError: another one has its name, or a conversation in it is not persistent.
        """
        if not isinstance(handler, ConversationHandler) or not handler.persistent:
            return
        conversation = cast("AnyConversation", handler)
        taken = {each.name: each for other in others for each in conversations_in(other) if each.persistent}
        for each in conversations_in(conversation):
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
        for each in conversations_in(handler):
            states = States(self._persistence, each)
            self._states[states.name] = states
            # python-telegram-bot has no other place where `check_update` would look.
            each._conversations = cast("Any", states)

    def states(self, name: str) -> States:
        """The states of a handler. Raises `SessionError` if there is none of this name."""
        if name not in self._states:
            raise SessionError(f"no persistent ConversationHandler of this application has the name {name!r}")
        return self._states[name]

    @property
    def follow_chats(self) -> bool:
        """Whether there are conversations whose key has a chat."""
        return any(states.handler.per_chat for states in self._states.values())

    def message_id(self, update: Update) -> str | None:
        """The id of the message to which an update belongs, if there are conversations of messages alone."""
        query, handlers = update.callback_query, [states.handler for states in self._states.values()]
        if query is None or all(each.per_user or each.per_chat for each in handlers):
            return None
        message_id = query.inline_message_id or (query.message and query.message.message_id)
        return f"message:{message_id}"

    def settle(self, data: LoadedData, results: Mapping[asyncio.Task[Any] | None, object]) -> None:
        """Before a commit: know how conversations went on that ran with `block=False`, and when they time out.

        Args:
            data: of the update.
            results: of the tasks that belong to it.
        """
        for (name, key), promise in data.pending.items():
            state = results.get(promise.task)
            if state is None:
                state = _END if promise.old_state is None else promise.old_state
            self._states[name].put(data, key, state)
        data.pending.clear()
        for name, key in data.timed:
            self._states[name].note_timeout(data, key)

    def is_over(self, data: LoadedData, job: Job[Any]) -> bool:
        """Whether a conversation has timed out when its timer says so; it may have gone on in another process.

        True of all other jobs.
        """
        handler: object = getattr(job.callback, "__self__", None)
        if not isinstance(handler, ConversationHandler) or handler.name not in self._states:
            return True
        return self._states[handler.name].are_over(data, getattr(job.data, "conversation_key", ()), job)


class States(MutableMapping[Key, object]):
    """Stands in the place where a `ConversationHandler` has its states, and has those of the running update.

    Args:
        persistence: of the application.
        handler: whose states they are.
    """

    def __init__(self, persistence: SessionPersistence, handler: AnyConversation) -> None:
        assert handler.name is not None
        self.handler = handler
        self.name: str = handler.name
        self._persistence = persistence

    def __getitem__(self, key: Key) -> object:
        data = self._loaded()
        if (pending := data.pending.get((self.name, key))) is not None:
            return pending
        if self.handler.conversation_timeout:
            data.timed.add((self.name, key))
        state = self._find(data, key)
        if state is None:
            raise KeyError(key)
        if not isinstance(state, tuple):
            return state
        if state[1] > self._persistence.now() or key in self.handler.timeout_jobs:
            return state[0]
        self.put(data, key, None)  # its timer went with its process
        raise KeyError(key)

    def __setitem__(self, key: Key, state: object) -> None:
        data = self._loaded()
        if hasattr(state, "old_state"):  # python-telegram-bot's promise of a state
            data.pending[self.name, key] = state
            return
        data.pending.pop((self.name, key), None)
        self.put(data, key, state)

    def __delitem__(self, key: Key) -> None:
        self[key] = None

    def __iter__(self) -> Iterator[Key]:
        data = self._loaded()
        for id_ in data.ids:
            yield from states_in(data.record(id_, self.name), self.name)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def home(self, key: Key) -> Id:
        """The id under which the state of a conversation is kept: of its user, or else of its chat or message."""
        if self.handler.per_user:
            return key[1 if self.handler.per_chat else 0]
        return key[0] if self.handler.per_chat else f"message:{key[0]}"

    def put(self, data: LoadedData, key: Key, state: object | None) -> None:
        """Let a conversation of an update have a state; raises as `put_into`."""
        record, key = self._place(data, key)
        self.put_into(record, key, state)

    def put_into(self, record: IdRecord, key: Key, state: object | None) -> None:
        """Let a conversation have a state; `None`: it is over.

        Raises:
            SessionEncodeError: there is no such state in JSON.
        """
        if state is None or state == _END:
            states = record.conversations.get(self.name, {})
            states.pop(_written(key), None)
            if not states:
                record.conversations.pop(self.name, None)
            return
        if isinstance(state, int):
            state = int(state)
        elif isinstance(state, str):
            state = str.__str__(state)
        else:
            raise SessionEncodeError(
                f"the conversation {self.name!r} went to a state of type {type(state).__name__}; only states of type "
                "str and int can be stored (an IntEnum's and a StrEnum's members are such); nothing was written",
                key=self._persistence.key(self.home(key)),
            )
        record.conversations.setdefault(self.name, {})[_written(key)] = state

    def note_timeout(self, data: LoadedData, key: Key) -> None:
        """Store with the state when it ends, so that other processes know."""
        state, job = self._find(data, key), self.handler.timeout_jobs.get(key)
        if state is None or job is None or job.next_t is None:
            return
        left = (job.next_t - datetime.datetime.now(datetime.UTC)).total_seconds()
        ends = self._persistence.now() + left
        plain, before = state if isinstance(state, tuple) else (state, 0.0)
        if ends > before + _LATE:
            record, key = self._place(data, key)
            record.conversations[self.name][_written(key)] = (plain, ends)

    def are_over(self, data: LoadedData, key: Key, timer: Job[Any]) -> bool:
        """Whether a conversation has timed out when its timer says so."""
        state = self._find(data, key)
        over = state is not None and (not isinstance(state, tuple) or state[1] <= self._persistence.now() + _LATE)
        if not over and self.handler.timeout_jobs.get(key) is timer:
            del self.handler.timeout_jobs[key]
        return over

    def _loaded(self) -> LoadedData:
        return loaded_data(self._persistence, f"the state of the conversation {self.name!r}")

    def _find(self, data: LoadedData, key: Key) -> State | None:
        record, key = self._place(data, key)
        return record.conversations.get(self.name, {}).get(_written(key))

    def _place(self, data: LoadedData, key: Key) -> tuple[IdRecord, Key]:
        """The record that has the state of a conversation, and the conversation's key in it.

        In a supergroup, a state that is still under the key of the group that it was gets the new key: the states of
        a group's members are with the members, so that they cannot all move with the group.
        """
        what = f"the state of the conversation {self.name!r}"
        record = data.record(self.home(key), what)
        if not self.handler.per_chat or data.holding(key[0]) is None:
            return record, key
        moved = data.record(key[0], what).moved
        if moved is None:
            return record, key
        old, new = ((chat, *key[1:]) for chat in moved)
        states = record.conversations.get(self.name, {})
        if _written(old) in states:
            states[_written(new)] = states.pop(_written(old))
        return record, new


def states_in(record: IdRecord, name: str) -> dict[Key, object]:
    """The states of a handler's conversations that are in a record."""
    states = record.conversations.get(name, {})
    return {
        tuple(msgspec.json.decode(key)): state[0] if isinstance(state, tuple) else state
        for key, state in states.items()
    }


def handlers_in(handler: object) -> Iterator[BaseHandler[Any, Any, Any]]:
    """A handler, and those inside of it if it is a conversation."""
    if isinstance(handler, BaseHandler):
        yield cast("BaseHandler[Any, Any, Any]", handler)
    if isinstance(handler, ConversationHandler):
        conversation = cast("AnyConversation", handler)
        inside = [conversation.entry_points, *conversation.states.values(), conversation.fallbacks]
        for each in {id(each): each for handlers in inside for each in handlers}.values():
            yield from handlers_in(each)


def conversations_in(handler: object) -> Iterator[AnyConversation]:
    """A conversation, and those inside of it; nothing if it is another handler."""
    for each in handlers_in(handler):
        if isinstance(each, ConversationHandler):
            yield each


def _written(key: Key) -> str:
    return msgspec.json.encode(key).decode()
