"""Give the handlers of a Telethon client their sessions."""

from __future__ import annotations

from typing import TypeVar

from telethon import TelegramClient  # pyright: ignore[reportMissingTypeStubs]

from chatsession.integrations.telethon._dispatch import dispatch_of
from chatsession.integrations.update_scope import SessionBinding
from chatsession.manager import SessionManager

T = TypeVar("T")


def setup_sessions(
    client: TelegramClient, sessions: SessionManager[T], *, lazy: bool = False, per_bot: bool = False
) -> None:
    """Give the handlers of a client the sessions of their chats.

    These are not related to the client's login, which Telethon also calls a session (`client.session`, the file
    `bot.session`). The login is never passed to handlers, read or changed here, and its file is refused as a storage.
    To use another word, name the manager: with `SessionManager(…, name="pizza")` the parameters of handlers are
    `pizza` and `pizza_ctx`.

    A handler with a parameter `session` after the event gets the data; one with `ctx` gets a `SessionContext`, to
    assign and delete. The session is locked and loaded before the handler runs, and committed after it: each handler
    of an update is a unit of work of its own, because Telethon runs the others even if one fails. `StopPropagation`
    commits. For a handler with neither, nothing is locked, read or written.

    The keys are those of the Bot API, so that a bot finds its sessions in every framework. Updates of MTProto
    have no ids by which a redelivered one could be recognised: `deduplicate` has no effect.

    The storage is opened when the client connects, or by the first event. It is closed when the client disconnects:
    before that, it waits 30 seconds for handlers with sessions, which can still answer; then Telethon cancels
    those that still run. A handler that disconnects the client itself is cancelled, and its change is not stored.

    Args:
        client: the client; its handlers may be registered before or after.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: load the session only when it is used: `session` must be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the account's id before each key, as in `42:-1001234`, if several accounts share a storage.

    Raises:
        TypeError: it is not a `TelegramClient`.
        ValueError: handlers get something else under the manager's name already, or another manager that was set up
            has the same keys in the same storage.
        SessionError: this Telethon is too old.

    Examples:
        >>> import asyncio
        >>> from chatsession import SessionManager
        >>> from chatsession.integrations.telethon import SessionContext, setup_sessions
        >>> from telethon import TelegramClient, errors, events
        >>> from telethon.sessions import StringSession
        >>> async def main() -> None:
        ...     client = TelegramClient(StringSession(), 1, "api hash")
        ...     setup_sessions(client, SessionManager(dict[str, int], storage="memory:"))
        ...     @client.on(events.NewMessage(pattern="/reset"))
        ...     async def on_reset(event: events.NewMessage.Event, ctx: SessionContext[dict[str, int]]) -> None:
        ...         ctx.session = None
        >>> asyncio.run(main())
    """
    if not isinstance(client, TelegramClient):  # pyright: ignore[reportUnnecessaryIsInstance] # people pass others
        raise TypeError(f"setup_sessions needs a TelegramClient, not a {type(client).__name__}")
    dispatch_of(client).add(SessionBinding(sessions, lazy=lazy, per_bot=per_bot))
