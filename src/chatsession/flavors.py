"""`ctx.session`, typed: mixins for the context class of a `(ctx, next)` chain."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from chatsession.errors import SessionError

T = TypeVar("T")


class Holder(Protocol):
    """What `ctx.session` stands for during an update: an open session, a lazy one, several, or none."""

    @property
    def data(self) -> object:
        """The value of the attribute."""
        ...

    @data.setter
    def data(self, value: object) -> None: ...

    async def save(self) -> None:
        """Commit now, and stay open."""
        ...

    async def release(self) -> None:
        """Commit now, and let the next update run."""
        ...

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something once this is committed."""
        ...


class SessionAttribute(Generic[T]):
    """A context attribute through which handlers use the session of the update.

    `SessionFlavor` declares one named `session`; declare more of them for managers with other names.

    Examples:
        >>> class Context(SessionFlavor[dict[str, int]]):
        ...     chat_id: int = 1
        ...     cart = SessionAttribute[list[str]]()  # for session(name="cart", …)
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = f"_{name}_holder"

    if TYPE_CHECKING:

        def __get__(self, ctx: object, owner: type) -> T: ...
        def __set__(self, ctx: object, value: T | None) -> None: ...
    else:

        def __get__(self, ctx, owner):
            if ctx is None:
                return self
            holder = ctx.__dict__.get(self._slot) or holder_of(ctx, self._name)
            return holder.data

        def __set__(self, ctx, value):
            holder_of(ctx, self._name).data = value


class _LazyAttribute(SessionAttribute[T]):
    if TYPE_CHECKING:

        def __get__(self, ctx: object, owner: type) -> Awaitable[T]: ...  # type: ignore[override]  # lazy: awaitable
        def __set__(self, ctx: object, value: T | Awaitable[T] | None) -> None: ...


class _SaveAndRelease:
    async def save_session(self) -> None:
        """Commit now what has changed, and go on (`Session.save`)."""
        await holder_of(self, "session").save()

    async def release_session(self) -> None:
        """Commit now what has changed, and let this chat's next update run (`Session.release`)."""
        await holder_of(self, "session").release()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something when the session is committed, in order, and not at all when it is not.

        With `deduplicate`, actions are stored in the same write as the data. If the process dies before they are
        sent, Telegram delivers the update again: the stored actions are sent, and the handler does not run again.
        Without `deduplicate`, or with a `StorageAdapter`, they are sent after the commit and are not stored.

        Args:
            action: a function registered with `@sessions.action`, or its name; or, if the context has `bot_methods`, a
                method of the bot as its framework has it.
            *args: positional arguments for it, as JSON.
            **kwargs: keyword arguments for it, as JSON.

        Raises:
            SessionActionError: it is not an action, it cannot be stored, or there is no update.
            SessionClosedError: the update is done, or the session was released.
        """
        holder_of(self, "session").after_commit(action, *args, **kwargs)


class SessionFlavor(_SaveAndRelease, Generic[T]):
    """Adds `ctx.session` to a context class: read the value, assign to replace it, assign `None` to delete it.

    Examples:
        >>> class Context(SessionFlavor[dict[str, int]]):
        ...     def __init__(self, chat_id: int) -> None:
        ...         self.chat_id = chat_id
    """

    session: SessionAttribute[T] = SessionAttribute()


class LazySessionFlavor(_SaveAndRelease, Generic[T]):
    """Adds a lazy `ctx.session` to a context class: `await ctx.session` loads and returns the value."""

    session: _LazyAttribute[T] = _LazyAttribute()


class Binding:
    """Puts a session behind the session attribute of a context.

    Args:
        name: of the attribute.
    """

    __slots__ = ("_fitting", "_name", "_slot")

    def __init__(self, name: str) -> None:
        self._name = name
        self._slot = f"_{name}_holder"
        self._fitting: type | None = None  # the context class that was checked last; most bots have one

    def bind(self, ctx: object, holder: object) -> None:
        """Bind a context. Raises `SessionError` if its class has no such attribute."""
        if type(ctx) is not self._fitting:
            self._check(type(ctx))
        setattr(ctx, self._slot, holder)

    def _check(self, cls: type) -> None:
        if not isinstance(getattr(cls, self._name, None), SessionAttribute):
            raise SessionError(
                f"the context class {cls.__name__} has no session attribute {self._name!r}: let it inherit from "
                f"SessionFlavor (or LazySessionFlavor), or declare {self._name} = SessionAttribute[…]() in it"
            )
        self._fitting = cls


def holder_of(ctx: object, name: str) -> Holder:
    """The session behind `ctx.<name>`. Raises `SessionError` outside of any session middleware."""
    try:
        return cast("Holder", getattr(ctx, f"_{name}_holder"))
    except AttributeError:
        raise SessionError(
            f"ctx.{name} is used outside of its middleware; install session() or lazy_session() before this handler"
        ) from None
