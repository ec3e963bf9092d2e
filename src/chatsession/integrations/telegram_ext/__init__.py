"""Sessions in python-telegram-bot 22: `context.session` in handlers, jobs and error handlers."""

# `_setup` has what users call. It gives the application, its handlers and its contexts classes that come before their
# own. An update then goes: `_application` opens a `_scope` for it; a handler (`_handlers`) has loaded what it uses
# (`_usage`, `_bot_data`); a context (`_context`) finds its sessions in the scope; the last task of the update commits.
# With persisted data (`_persistent`, `_persistence`), the scope has what the update has loaded (`_loaded`): records of
# chats and users (`_records`) with the states of conversations (`_conversations`). Keyboards are `_keyboards`.

try:
    from chatsession.integrations.states.options import StateOptions
    from chatsession.integrations.telegram_ext._context import (
        LazySessionAttribute,
        LazySessionCallbackContext,
        SessionCallbackContext,
        SessionMethods,
    )
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.telegram_ext._persistent import open_persistence
    from chatsession.integrations.telegram_ext._setup import setup_persistence, setup_polling, setup_sessions
    from chatsession.integrations.update_context import UpdateContext
except ImportError as error:
    if (error.name or "").partition(".")[0] != "telegram":
        raise
    raise ImportError(
        "chatsession.integrations.telegram_ext needs python-telegram-bot 22 or newer: "
        "pip install 'chatsession[telegram-ext]'"
    ) from error

__all__ = [
    "LazySessionAttribute",
    "LazySessionCallbackContext",
    "SessionCallbackContext",
    "SessionMethods",
    "SessionPersistence",
    "StateOptions",
    "UpdateContext",
    "open_persistence",
    "setup_persistence",
    "setup_polling",
    "setup_sessions",
]
