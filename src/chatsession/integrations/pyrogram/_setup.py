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

    These have nothing to do with the client's login, which Pyrogram calls a session, too (`client.session`, the file
    `my_account.session`): that one is never given to handlers, read or changed here, and its file is refused as a
    storage. To use another word, name the manager: with `SessionManager(…, name="pizza")`
    handlers name `pizza` and `pizza_ctx`.

    A handler that names `session` after the client and the update gets the data; one that names `ctx` gets a
    `SessionContext`, to assign and delete. The session is locked and loaded before the handler runs, and committed
    after it: each handler of an update is a unit of work of its own, since Pyrogram runs those of further groups also
    if one has failed. `StopPropagation` and `ContinuePropagation` commit. For a handler that names neither, nothing is
    locked, read or written. A handler of errors runs after the failed one has ended, and gets a session of its own. A
    handler that is not `async` runs in its thread as ever.

    The keys are those of the Bot API, so that the same bot finds its sessions in every framework. Updates of MTProto
    have no ids by which one that is delivered again could be known: `deduplicate` has no effect.

    The storage is opened when the client starts, and closed when it stops, once all updates are handled that it has
    got. An update that waits for its chat occupies one of the client's `workers`.

    Args:
        client: the client; its handlers may be registered before or after, also by plugins.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the account's id before each key, as in `42:-1001234`, where several share a storage.

    Raises:
        TypeError: this is no `Client`.
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
