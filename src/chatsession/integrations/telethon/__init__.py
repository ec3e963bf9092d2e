"""Sessions in Telethon: event handlers with a parameter `session` or `ctx` get the session of their chat."""

try:
    from chatsession.integrations.telethon._setup import setup_sessions
    from chatsession.integrations.update_context import UpdateContext
    from chatsession.integrations.update_session import LazySessionContext, SessionContext
except ImportError as error:
    if (error.name or "").partition(".")[0] != "telethon":
        raise
    raise ImportError(
        "chatsession.integrations.telethon needs Telethon 1.40 or newer: pip install 'chatsession[telethon]'"
    ) from error

__all__ = [
    "LazySessionContext",
    "SessionContext",
    "UpdateContext",
    "setup_sessions",
]
