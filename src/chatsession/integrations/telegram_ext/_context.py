"""`context.session` in python-telegram-bot's contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from telegram.ext import Application, CallbackContext, ContextTypes, ExtBot

from chatsession.errors import SessionActionError, SessionError, SessionNameError
from chatsession.flavors import LazySessionFlavor, SessionAttribute, SessionFlavor
from chatsession.flavors import _LazyAttribute as LazySessionAttribute
from chatsession.integrations.telegram_ext._scope import SCOPE, Scope, running
from chatsession.integrations.update_scope import SessionBinding

T = TypeVar("T")

if TYPE_CHECKING:
    _Context = CallbackContext[ExtBot[None], dict[Any, Any], dict[Any, Any], dict[Any, Any]]
else:
    _Context = CallbackContext


class SessionMethods:
    """What contexts can do with all sessions that were set up; those with an attribute of their own have it typed."""

    async def load_session(self) -> None:
        """Lock and load the sessions where that is not done for you: in error handlers.

        An error handler gets sessions of its own, of the chat (or the job) in which the error happened; what it
        changes is stored when it returns. One that does not load them costs nothing.
        """
        await _scope(self).open()

    async def save_session(self) -> None:
        """Commit now what has changed, and go on (`Session.save`)."""
        for holder in _scope(self).holders():
            await holder.save()

    async def release_session(self) -> None:
        """Commit now what has changed, and let this chat's next update run (`Session.release`)."""
        for holder in _scope(self).holders():
            await holder.release()

    def after_commit(self, action: object, *args: Any, **kwargs: Any) -> None:
        """Send something when the session is committed, in order, and not at all when it is not.

        With `deduplicate`, actions are stored in the same write as the data. If the process dies before they are
        sent, Telegram delivers the update again; then the handler does not run, and what is stored is sent. Without
        `deduplicate`, or in a `StorageAdapter`, they are sent after the commit and are not stored. Of several
        sessions, the first that can store them does.

        Args:
            action: the name of a method of the bot, as in `context.after_commit("send_message", chat_id, "Done")`, or
                a function that was registered by `@sessions.action`.
            *args: for it.
            **kwargs: for it.

        Raises:
            SessionActionError: it is not an action, it cannot be stored, or this is a job, which is not an update.
            SessionClosedError: the update is done, or the session was released.
            SessionKeyError: the update has no session.
        """
        if cast("Any", self).job is not None:
            raise SessionActionError("after_commit works inside an update only; a job can call the bot itself")
        _scope(self).after_commit(action, *args, **kwargs)


class SessionCallbackContext(SessionMethods, SessionFlavor[T], _Context):
    """A `CallbackContext` with `context.session`: the value; assign to replace, assign `None` to delete.

    Inherit from it, and give the class to the builder. For managers with other names, declare attributes like
    `cart`. To change the types of `user_data`, `chat_data` or `bot_data`, inherit from
    `SessionMethods, SessionFlavor[T], CallbackContext[…]` instead.

    Examples:
        >>> from telegram.ext import Application, ContextTypes
        >>> from chatsession import SessionAttribute
        >>> class Context(SessionCallbackContext[dict[str, int]]):
        ...     cart = SessionAttribute[list[str]]()  # for SessionManager(list[str], name="cart", …)
        >>> builder = Application.builder().context_types(ContextTypes(context=Context))
    """


class LazySessionCallbackContext(SessionMethods, LazySessionFlavor[T], _Context, Generic[T]):
    """A `CallbackContext` with a lazy `context.session`: `await context.session` reads, when it is first asked.

    For managers with other names, declare attributes like `cart = LazySessionAttribute[list[str]]()`.
    """


class ServedContext(SessionMethods):
    """Comes before the context class of an application: its sessions are opened when a handler is about to run."""

    @classmethod
    def from_update(cls, update: object, application: Any) -> Any:
        """python-telegram-bot calls this for the first handler of an update."""
        try:
            return cast("Any", super()).from_update(update, application)
        except SessionError as error:
            raise SessionNameError(
                f"{cls.__name__} has something else under the name of a session: its constructor assigns it; give the "
                "SessionManager another name, as in SessionManager(…, name='state_')"
            ) from error

    async def refresh_data(self) -> None:
        """python-telegram-bot calls this with every new context, directly before a job's callback or a handler."""
        context, scope = cast("Any", self), running.get()
        refresh_data = cast("Any", super()).refresh_data  # of the class that comes after this one
        if context.job is not None:
            context.application.take_over(context.job, context, refresh_data)
        elif scope is None:  # somebody refreshes a context of their own
            await refresh_data()
        else:
            await scope.enter(context, refresh_data)


def serve_contexts(application: Application[Any, Any, Any, Any, Any, Any], binding: SessionBinding[Any]) -> None:
    """Let the contexts of an application have an attribute for the sessions of a manager.

    Raises:
        SessionNameError: contexts have something else under its name.
        ValueError: it is declared for the other kind of session, lazy or not.
    """
    given = application.context_types.context
    attribute = getattr(given, binding.name, None)
    _check(given, attribute, binding)
    given = serve_refreshes(application)
    if attribute is None:
        attribute = LazySessionAttribute[Any]() if binding.lazy else SessionAttribute[Any]()
        attribute.__set_name__(given, binding.name)
        setattr(given, binding.name, attribute)


def serve_refreshes(application: Application[Any, Any, Any, Any, Any, Any]) -> type[Any]:
    """Let an application be told of each new context; gives their class."""
    types = application.context_types
    given = types.context
    if not issubclass(given, ServedContext):
        given = type(given.__name__, (ServedContext, given), {"__module__": given.__module__})
        application.context_types = ContextTypes(given, types.bot_data, types.chat_data, types.user_data)
    return given


def _check(given: type[object], attribute: object, binding: SessionBinding[Any]) -> None:
    name = binding.name
    if attribute is None:
        return
    if not isinstance(attribute, SessionAttribute):
        raise SessionNameError(
            f"{given.__name__} has something else as {name!r} already, a {type(attribute).__name__}, where chatsession "
            "would put the session; give the SessionManager another name, as in SessionManager(…, name='state_')"
        )
    if isinstance(attribute, LazySessionAttribute) != binding.lazy:
        declared = "LazySessionCallbackContext, or LazySessionAttribute," if binding.lazy else "SessionCallbackContext"
        raise ValueError(
            f"{given.__name__} declares {name!r} for lazy={not binding.lazy}, but it is set up with "
            f"lazy={binding.lazy}; declare it by {declared} or set it up the other way"
        )


def _scope(context: object) -> Scope:
    scope: Scope | None = getattr(context, SCOPE, None)
    if scope is None:
        raise SessionError(
            "this context has no sessions: it belongs to no update, job or error handler of an application for which "
            "setup_sessions() was called; use sessions.open() elsewhere"
        )
    return scope.current
