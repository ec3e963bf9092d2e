"""Where contexts find their sessions."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Any

from chatsession.integrations.telegram_ext._shared_scope import Served, SharedScope, shared_scope
from chatsession.integrations.update_context import UpdateContext


class ContextScope:
    """Where contexts find their sessions: in the scope of one update, of one run of a job, or of an error handler.

    Args:
        served: what was set up.
        ids: whose they are.
        update: that it is about, if it is about one.
    """

    def __init__(self, served: Served, ids: Callable[[], UpdateContext], update: object | None = None) -> None:
        self.update = update
        self._served = served
        self.bound = False
        self._ids = ids
        self._token: Token[SharedScope | None] | None = None
        self.shared = SharedScope(self, served, ids)

    @property
    def current(self) -> SharedScope:
        """The scope in which this task takes part."""
        shared = shared_scope.get()
        return shared if shared is not None and shared.scope is self else self.shared

    def bind(self, context: object) -> None:
        """Let a context find its sessions here."""
        self.bound = True
        for binding in self.shared.bindings.all:
            setattr(context, f"_{binding.name}_holder", ScopedHolder(self, binding.name))
        setattr(context, SCOPE, self)

    def renew(self) -> None:
        """What follows is a scope of its own, because the one before has failed."""
        self.shared = SharedScope(self, self._served, self._ids)
        shared_scope.set(self.shared)

    async def __aenter__(self) -> SharedScope:
        self._token = shared_scope.set(self.shared)
        return self.shared

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        shared_scope.reset(self._token)
        await self.shared.end(error)


class ScopedHolder:
    """Stands behind an attribute of a context (`flavors.Holder`)."""

    __slots__ = ("_name", "_scope")

    def __init__(self, scope: ContextScope, name: str) -> None:
        self._scope = scope
        self._name = name

    @property
    def data(self) -> Any:
        return self._scope.current.holder(self._name).data

    @data.setter
    def data(self, value: Any) -> None:
        self._scope.current.holder(self._name).data = value

    async def save(self) -> None:
        """Commit now, and go on."""
        await self._scope.current.holder(self._name).save()

    async def release(self) -> None:
        """Commit now, and let the next update in."""
        await self._scope.current.holder(self._name).release()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something once it is committed."""
        self._scope.current.holder(self._name).after_commit(action, *args, **kwargs)


SCOPE = "_chatsession_scope"
"""The attribute of a context behind which its `Scope` is."""
