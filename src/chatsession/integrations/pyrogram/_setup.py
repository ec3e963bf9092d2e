"""Give the handlers of a Pyrogram client their sessions."""

from __future__ import annotations

from typing import TypeVar

import pyrogram

from chatsession.integrations.pyrogram._dispatch import dispatch_of
from chatsession.integrations.update_scope import SessionBinding
from chatsession.manager import SessionManager

T = TypeVar("T")


def setup_sessions(
    client: pyrogram.Client, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None:
    """Give the handlers of a client the sessions of their chats.

    These are not related to the client's login, which Pyrogram also calls a session (`client.session`, the file
    `my_account.session`). The login is never passed to handlers, read or changed here, and its file is refused as a
    storage. To use another word, name the manager: with `SessionManager(…, name="pizza")` the parameters of
    handlers are `pizza` and `pizza_ctx`.

    A handler with a parameter `session` after the client and the update gets the data; one with `ctx` gets a
    `SessionContext`, to assign and delete. The session is locked and loaded before the handler runs, and committed
    after it: each handler of an update is a unit of work of its own, because Pyrogram runs those of later groups even
    if one fails. `StopPropagation` and `ContinuePropagation` commit. For a handler with neither, nothing is
    locked, read or written. An error handler runs after the failed handler has ended, and gets a session of its own. A
    handler that is not `async` runs in a thread, as always.

    The keys are those of the Bot API, so that a bot finds its sessions in every framework. Updates of MTProto
    have no ids by which a redelivered one could be recognised: `deduplicate` has no effect.

    The storage is opened when the client starts, and closed when it stops, once all updates that it has received are
    handled. An update that waits for its chat occupies one of the client's `workers`.

    Args:
        client: the client; its handlers may be registered before or after, also by plugins.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: load the session only when it is used: `session` must be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the account's id before each key, as in `42:-1001234`, if several accounts share a storage.

    Raises:
        TypeError: it is not a `Client`.
        ValueError: handlers get something else under the manager's name already, or another manager that was set up
            has the same keys in the same storage.
        SessionError: this kurigram is too old, or it is Pyrogram itself.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.pyrogram import SessionContext, setup_sessions
        >>> from pyrogram import Client, filters
        >>> from pyrogram.types import Message
        >>> app = Client("pizza_bot", in_memory=True)
        >>> setup_sessions(app, SessionManager(dict[str, int], storage="memory:"))
        >>> async def on_reset(client: Client, message: Message, ctx: SessionContext[dict[str, int]]) -> None:
        ...     ctx.session = None
    """
    if not isinstance(client, pyrogram.Client):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
        raise TypeError(f"setup_sessions needs a pyrogram.Client, not a {type(client).__name__}")
    dispatch_of(client).add(SessionBinding(sessions, lazy=lazy, per_bot=per_bot))
