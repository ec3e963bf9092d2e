"""An application gets the class that works with what was set up for it."""

from __future__ import annotations

from typing import Any

from chatsession.integrations.telegram_ext._application import AnyApplication, ErrorHandler, ServedApplication
from chatsession.integrations.telegram_ext._methods import methods_of_bot
from chatsession.integrations.telegram_ext._persistent import PersistentApplication
from chatsession.integrations.telegram_ext._shared_scope import Served
from chatsession.integrations.update_scope import SessionBindings


def served_by(application: AnyApplication) -> Served:
    """What was set up for an application."""
    if isinstance(application, ServedApplication):
        return application.served
    return Served(SessionBindings(), methods=methods_of_bot(application.bot))


def serve(application: AnyApplication, served: Served) -> None:
    """Let an application work with what is set up for it."""
    is_new = not isinstance(application, ServedApplication)
    given = type(application) if is_new else type(application).__bases__[-1]
    base = ServedApplication if served.persistence is None else PersistentApplication
    names = {"__slots__": (), "__module__": given.__module__, "served": served}
    # An instance has no dictionary in Python 3.13, and the set-up comes after the builder.
    made: Any = application
    made.__class__ = type(given.__name__, (base, given), names)
    if is_new:
        handlers = application.error_handlers
        application.error_handlers = {ErrorHandler(made, callback): block for callback, block in handlers.items()}
    made.serve_handlers()
