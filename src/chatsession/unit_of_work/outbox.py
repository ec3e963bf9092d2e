"""What an update hands to `after_commit`: stored with the session, sent after the commit, in order."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from chatsession.actions import (
    ActionFunctions,
    Methods,
    RefusedError,
    RetryLaterError,
    UnknownActionError,
    UnreachableError,
)
from chatsession.errors import SessionActionError, SessionUnsentError, shown
from chatsession.serialization.envelope import StoredAction, UpdateActions
from chatsession.serialization.pipeline import Unpacked

_log = logging.getLogger("chatsession")

PAUSES = [0.3, 1.0, 3.0, 10.0]
"""Seconds to wait after each attempt that failed; after the last one, an action is left to a redelivery."""
_MOST_KNOWN = 10_000
"""Updates that a manager knows at most; one that it does not know is sent again if it is delivered again."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Outgoing:
    """What one manager knows of the actions of its updates; updates are known by the session's key and their id."""

    __slots__ = ("_last", "_outboxes", "_sent", "_told", "functions")

    def __init__(self) -> None:
        self.functions: ActionFunctions = ActionFunctions()
        self._outboxes: dict[tuple[str, int | str], Outbox] = {}
        """What is not sent yet."""
        self._sent: dict[tuple[str, int | str], None] = {}
        """What the next commit of the session need not store any more."""
        self._last: dict[str, Outbox] = {}
        """The end of each session's queue: actions are sent in the order of the commits."""
        self._told = False

    def enter_queue(self, key: str, outbox: Outbox) -> Outbox | None:
        """Stand in a session's queue; gives who is before, if anybody is."""
        before = self._last.get(key)
        self._last[key] = outbox
        return before

    def leave_queue(self, key: str, outbox: Outbox) -> None:
        """Let the next one in the queue send."""
        if self._last.get(key) is outbox:
            del self._last[key]

    def begin(self, key: str, update: int | str, outbox: Outbox) -> None:
        """Let other deliveries of the update, in this process, find the actions that are about to be sent."""
        self._outboxes[key, update] = outbox
        _bound(self._outboxes)

    def end(self, key: str, update: int | str, outbox: Outbox, *, sent: bool) -> None:
        """An update has nothing left to send."""
        if self._outboxes.get((key, update)) is outbox:
            del self._outboxes[key, update]
        if sent:
            self._sent[key, update] = None
            _bound(self._sent)

    def again(
        self, key: str, update: int | str, waiting: tuple[UpdateActions, ...], methods: Methods | None
    ) -> Outbox | None:
        """What an update that is delivered again has left to send."""
        if (key, update) in self._sent:
            return None
        if (known := self._outboxes.get((key, update))) is not None:
            return known
        for each in waiting:
            if each.update == update:
                outbox = Outbox(self, key, update, methods, each.actions)
                self.begin(key, update, outbox)
                return outbox
        return None

    def clear(self) -> None:
        """What was being sent is left behind in another event loop or process."""
        self._outboxes.clear()
        self._last.clear()

    def without_sent(self, key: str, unpacked: Unpacked) -> Unpacked:
        """What is stored, less what this process has sent."""
        waiting = tuple([each for each in unpacked.actions if (key, each.update) not in self._sent])
        return unpacked if len(waiting) == len(unpacked.actions) else replace(unpacked, actions=waiting)

    def tell_unstored(self, key: str, why: str) -> None:
        """Log once that actions are not stored."""
        if not self._told:
            self._told = True
            _log.warning(
                "session %s: what is handed to after_commit is sent after the commit, but not stored, because %s; a "
                "crash in between loses it",
                shown(key),
                why,
            )


def _bound(known: dict[tuple[str, int | str], Any]) -> None:
    if len(known) > _MOST_KNOWN:
        del known[next(iter(known))]


class _Item(Struct, gc=False):
    action: object
    """As it was handed over, or its stored name."""
    args: tuple[Any, ...] | list[Any]
    kwargs: dict[str, Any]
    is_function: bool
    stored: StoredAction | None


class Outbox:
    """The actions of one update in one session. Several deliveries of the update, in one process, share it.

    Args:
        outgoing: of the manager.
        key: of the session, with the prefix.
        update: id of the update, where it is remembered; `None`: its actions are not stored.
        methods: of the bot that got the update, if there is one.
        stored: what an earlier run of the update has stored.
    """

    __slots__ = ("_before", "_items", "_key", "_left", "_methods", "_outgoing", "_sending", "_update")

    def __init__(
        self,
        outgoing: Outgoing,
        key: str,
        update: int | str | None,
        methods: Methods | None,
        stored: tuple[StoredAction, ...] = (),
    ) -> None:
        self._outgoing = outgoing
        self._key = key
        self._update = update
        self._methods = methods
        self._items = [
            _Item(each.name, _decode(each.args), _decode(each.kwargs), each.kind == "function", each) for each in stored
        ]
        self._before: Outbox | None = None
        self._left = asyncio.Event()
        """Set while this is not in the queue of the session."""
        self._left.set()
        self._sending = asyncio.Lock()
        """Held by the delivery that sends."""

    def add(self, action: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take an action.

        Raises:
            SessionActionError: it is not an action, or it cannot be stored.
        """
        if inspect.iscoroutine(action):
            action.close()
            raise SessionActionError(
                f"{action.__qualname__}() was called already; hand over what is to be called, not its coroutine",
                key=self._key,
            )
        name = self._outgoing.functions.name_of(action)
        if name is not None:
            positional, keywords = _as_json(name, list(args), kwargs)
            stored = StoredAction("function", name, Raw(_encode(positional)), Raw(_encode(keywords)))
            self._items.append(_Item(name, positional, keywords, True, stored))
            return
        if self._methods is None:
            raise SessionActionError(
                f"{_described(action)} is not a registered function, and this context knows no bot whose method it "
                "could be; register a function by @sessions.action",
                key=self._key,
            )
        if self._update is None:
            self._items.append(_Item(action, args, kwargs, False, None))
            return
        name, positional, keywords = self._methods.encode(action, args, kwargs)
        try:
            stored = StoredAction("method", name, Raw(_encode(positional)), Raw(_encode(keywords)))
        except (TypeError, ValueError, msgspec.MsgspecError):
            raise SessionActionError(
                f"the arguments of {name} are not JSON, and cannot be stored", key=self._key
            ) from None
        self._items.append(_Item(action, args, kwargs, False, stored))

    @property
    def stored(self) -> tuple[StoredAction, ...]:
        """What a commit has to store."""
        if self._update is None:
            return ()
        return tuple([item.stored for item in self._items if item.stored is not None])

    def enter_queue(self) -> None:
        """The commit begins: what was committed before in this session is sent before."""
        if self._left.is_set():
            self._left.clear()
            self._before = self._outgoing.enter_queue(self._key, self)
            if self._update is not None:
                self._outgoing.begin(self._key, self._update, self)

    async def send(self) -> None:
        """Send what is left, in order, after what was committed before.

        Raises:
            SessionUnsentError: Telegram cannot be reached, and what is left is stored.
        """
        async with self._sending:
            try:
                if self._before is not None:
                    await self._before.wait_left()
                while self._items:
                    await self._send(self._items[0])
                    del self._items[0]
                if self._update is not None:
                    self._outgoing.end(self._key, self._update, self, sent=True)
            finally:
                self._leave_queue()

    async def wait_left(self) -> None:
        """Wait until this has sent what it can."""
        await self._left.wait()

    def _leave_queue(self) -> None:
        self._before = None
        if not self._left.is_set():
            self._left.set()
            self._outgoing.leave_queue(self._key, self)

    def discard(self) -> None:
        """The update failed: send nothing."""
        self._items.clear()
        self._leave_queue()
        if self._update is not None:
            self._outgoing.end(self._key, self._update, self, sent=False)

    async def _send(self, item: _Item) -> None:
        attempts = 0
        while True:
            try:
                await self._call(item)
                return
            except RetryLaterError as later:
                await asyncio.sleep(later.seconds)
            except UnreachableError as error:
                if attempts == len(PAUSES):
                    self._give_up(item, error)
                    return
                await asyncio.sleep(PAUSES[attempts])
                attempts += 1

    async def _call(self, item: _Item) -> None:
        try:
            await (self._call_function(item) if item.is_function else self._call_method(item))
        except (RefusedError, UnknownActionError) as error:
            _log.error("session %s: %s of after_commit is dropped: %s", shown(self._key), self._named(item), error)
        except (RetryLaterError, UnreachableError):
            raise
        except Exception:
            _log.exception("session %s: %s of after_commit is dropped: it failed", shown(self._key), self._named(item))

    async def _call_method(self, item: _Item) -> None:
        if self._methods is None:
            raise UnknownActionError("this context knows no bot whose method it could be")
        try:
            await self._methods.call(item.action, item.args, item.kwargs)
        except Exception as error:
            raise self._methods.translate(error) from error

    async def _call_function(self, item: _Item) -> None:
        function = self._outgoing.functions.get(str(item.action))
        if function is None:
            raise UnknownActionError("no function of this name is registered any more")
        try:
            await function(*item.args, **item.kwargs)
        except OSError as error:  # of the network, and time-outs
            raise UnreachableError(type(error).__name__) from error
        except Exception as error:
            raise (error if self._methods is None else self._methods.translate(error)) from error

    def _give_up(self, item: _Item, error: UnreachableError) -> None:
        if self._update is None:
            _log.error("session %s: %s of after_commit is lost: %s", shown(self._key), self._named(item), error)
            return
        raise SessionUnsentError(
            f"{self._named(item)} could not be sent after the commit ({error}); it is stored, and will be sent when "
            "Telegram delivers the update again",
            key=self._key,
        )

    def _named(self, item: _Item) -> str:
        if item.stored is not None:
            return item.stored.name
        return str(item.action) if self._methods is None else self._methods.describe(item.action)


def _as_json(name: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments as a function will get them after a restart."""
    try:
        decoded: Any = _decode(_encode((args, kwargs)))
    except (TypeError, ValueError, msgspec.MsgspecError):
        decoded = []
    if decoded != [args, kwargs]:
        raise SessionActionError(f"the arguments of the action {name!r} are not JSON, and cannot be stored")
    return decoded[0], decoded[1]


def _described(action: object) -> str:
    return repr(action) if isinstance(action, str) else f"a {type(action).__name__}"
