"""Sessions in kurigram (a fork of Pyrogram): handlers with a parameter `session` or `ctx` get their chat's session."""

try:
    from chatsession.integrations.pyrogram._setup import setup_sessions
    from chatsession.integrations.update_context import UpdateContext
    from chatsession.integrations.update_session import LazySessionContext, SessionContext
except ImportError as error:
    if (error.name or "").partition(".")[0] != "pyrogram":
        raise
    raise ImportError(
        "chatsession.integrations.pyrogram needs kurigram 2.2.25 or newer: pip install 'chatsession[pyrogram]'"
    ) from error

__all__ = [
    "LazySessionContext",
    "SessionContext",
    "UpdateContext",
    "setup_sessions",
]
