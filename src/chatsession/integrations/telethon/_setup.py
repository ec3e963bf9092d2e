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

    These have nothing to do with the client's login, which Telethon calls a session, too (`client.session`, the file
    `bot.session`): that one is never given to handlers, read or changed here, and its file is refused as a storage.
    To use another word, name the manager: with `SessionManager(…, name="pizza")` handlers name
    `pizza` and `pizza_ctx`.

    A handler that names `session` after the event gets the data; one that names `ctx` gets a `SessionContext`, to
    assign and delete. The session is locked and loaded before the handler runs, and committed after it: each handler
    of an update is a unit of work of its own, since Telethon runs the others also if one has failed. `StopPropagation`
    commits. For a handler that names neither, nothing is locked, read or written.

    The keys are those of the Bot API, so that the same bot finds its sessions in every framework. Updates of MTProto
    have no ids by which one that is delivered again could be known: `deduplicate` has no effect.

    The storage is opened when the client connects, or by the first event. It is closed when the client disconnects:
    before that, handlers with sessions are awaited for 30 seconds, while they can still answer; then Telethon cancels
    what runs. A handler that itself disconnects the client is cancelled by it, and its own change is not stored.

    Args:
        client: the client; its handlers may be registered before or after.
        sessions: the manager. Several, with different `name`s, can be set up side by side.
        lazy: read only when it is asked for: `session` is to be awaited, `ctx` is a `LazySessionContext`.
        per_bot: put the account's id before each key, as in `42:-1001234`, where several share a storage.

    Raises:
        TypeError: this is no `TelegramClient`.
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
