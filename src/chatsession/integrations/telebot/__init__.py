"""Sessions in pyTelegramBotAPI, for the handlers of an `AsyncTeleBot` or a `TeleBot` that name `session` or `ctx`."""

try:
    from chatsession.integrations.states.options import StateOptions
    from chatsession.integrations.telebot._setup import setup_fsm, setup_sessions, start_polling
    from chatsession.integrations.telebot._states import SessionStateStorage, SyncSessionStateStorage
    from chatsession.integrations.telebot._thread_context import SyncSessionContext
    from chatsession.integrations.update_context import UpdateContext
    from chatsession.integrations.update_session import LazySessionContext, SessionContext
except ImportError as error:
    if (error.name or "").partition(".")[0] != "telebot":
        raise
    raise ImportError(
        "chatsession.integrations.telebot needs pyTelegramBotAPI 4.27 or newer: pip install 'chatsession[telebot]'"
    ) from error

__all__ = [
    "LazySessionContext",
    "SessionContext",
    "SessionStateStorage",
    "StateOptions",
    "SyncSessionContext",
    "SyncSessionStateStorage",
    "UpdateContext",
    "setup_fsm",
    "setup_sessions",
    "start_polling",
]
