"""Whose session an update needs, and the unit of work for it."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Generic, TypeVar

from chatsession.errors import SessionKeyError
from chatsession.keys import Key, checked, missing, update_id_of
from chatsession.options import SessionOptions
from chatsession.storages import Record
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.move import move
from chatsession.unit_of_work.observed import ObservedUnit
from chatsession.unit_of_work.prefixes import is_foreign, longer_prefixes
from chatsession.unit_of_work.runtime import RESERVED, Runtime
from chatsession.unit_of_work.unit import UnitOfWork
from chatsession.unit_of_work.watched import WatchedUnit, nobody_observes

T = TypeVar("T")

_PAGE = 500


class Units(Generic[T]):
    """Makes the units of work of one manager.

    Args:
        options: of the manager.
        runtime: of the manager.
    """

    __slots__ = ("_get_session_key", "_observe", "name", "runtime")

    def __init__(self, options: SessionOptions[T], runtime: Runtime[T]) -> None:
        self.runtime: Runtime[T] = runtime
        self.name: str = options.name
        """Under which handlers get the session."""
        self._get_session_key = options.get_session_key
        self._observe = options.observe

    def key(self, ctx: object, scope: str = "") -> str | Awaitable[str | None] | None:
        """The stored key of a context's session; to be awaited only where the user's function is async.

        Args:
            ctx: what `get_session_key` is given.
            scope: is put between the prefix and the key.

        Raises:
            SessionKeyError: `get_session_key` gave something that cannot be a key.
        """
        key = self._get_session_key(ctx)
        if type(key) is not str and inspect.isawaitable(key):
            return self._awaited_key(key, scope)
        return checked(key, self.runtime.prefix + scope, self._get_session_key)

    async def key_of(self, ctx: object, scope: str = "") -> str | None:
        """As `key`, awaited where that is needed."""
        key = self.key(ctx, scope)
        return key if key is None or isinstance(key, str) else await key

    def unit(self, key: str, ctx: object = None) -> UnitOfWork[T]:
        """The unit of work of a stored key; `ctx` is the context of the update in which it is opened, if any."""
        runtime, observe = self.runtime, self._observe
        update_id = update_id_of(ctx) if runtime.deduplicate and ctx is not None else None
        loop = runtime.loop or asyncio._get_running_loop()
        if loop is not None and (sys.flags.dev_mode or loop.get_debug()):
            return WatchedUnit(runtime, key, update_id, ctx, self.name, observe or nobody_observes)
        if observe is None:
            return UnitOfWork(runtime, key, update_id, ctx)
        return ObservedUnit(runtime, key, update_id, ctx, self.name, observe)

    def lazy_unit(self, key: str, ctx: object) -> LazySession[T]:
        """A session that is opened when somebody asks for it."""
        return LazySession(lambda: self.unit(key, ctx))

    def missing(self) -> SessionKeyError:
        """The error of an update that has no session."""
        return missing(self._get_session_key)

    async def records(self, start: str = "") -> AsyncIterator[tuple[str, Record]]:
        """All stored sessions of this manager whose key begins with `start`, by their full key."""
        runtime = self.runtime
        await runtime.enter_loop()
        storage, pipeline = runtime.coordinator.storage, runtime.serializer.pipeline
        prefix = runtime.prefix + start
        others = () if pipeline is None else await longer_prefixes(storage, prefix)
        cursor: str | None = None
        while True:
            page, cursor = await storage.scan(prefix, cursor, _PAGE)
            for key, record in page:
                if key.startswith(RESERVED) or is_foreign(key, others):
                    continue
                if pipeline is None or not pipeline.is_empty(key, record.value):
                    yield key, record
            if cursor is None:
                return

    async def move_all(self, old: str, new: str) -> None:
        """Move all sessions whose key begins with `old` to the keys that begin with `new` instead; see `move`."""
        prefix = self.runtime.prefix
        async for key, _ in self.records(old):
            await move(self.runtime, key, f"{prefix}{new}{key[len(prefix + old) :]}")

    async def _awaited_key(self, key: Awaitable[Key], scope: str) -> str | None:
        return checked(await key, self.runtime.prefix + scope, self._get_session_key)
