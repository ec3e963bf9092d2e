"""Sessions in aiogram 3: handlers that name `session` or `ctx` get them; all others cost nothing."""

try:
    from chatsession.integrations.aiogram._fsm import SessionEventIsolation, SessionFSMStorage
    from chatsession.integrations.aiogram._setup import setup_fsm, setup_sessions, start_polling
    from chatsession.integrations.states.options import StateOptions
    from chatsession.integrations.update_context import UpdateContext
    from chatsession.integrations.update_session import LazySessionContext, SessionContext
except ImportError as error:
    if (error.name or "").partition(".")[0] != "aiogram":
        raise
    raise ImportError(
        "chatsession.integrations.aiogram needs aiogram 3.13 or newer: pip install 'chatsession[aiogram]'"
    ) from error

__all__ = [
    "LazySessionContext",
    "SessionContext",
    "SessionEventIsolation",
    "SessionFSMStorage",
    "StateOptions",
    "UpdateContext",
    "setup_fsm",
    "setup_sessions",
    "start_polling",
]
