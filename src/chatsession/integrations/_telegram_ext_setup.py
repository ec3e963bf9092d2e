"""An application gets the class that works with what was set up for it."""

from __future__ import annotations

from typing import Any

from chatsession.integrations._telegram_ext_application import AnyApplication, ErrorHandler, ServedApplication
from chatsession.integrations._telegram_ext_methods import methods_of_bot
from chatsession.integrations._telegram_ext_persistence import SessionPersistence
from chatsession.integrations._telegram_ext_persistent import PersistentApplication
from chatsession.integrations._telegram_ext_views import DataOfUpdate
from chatsession.integrations._telegram_ext_work import Served
from chatsession.integrations.update_scope import SessionBinding, SessionBindings


def serve_sessions(application: AnyApplication, binding: SessionBinding[Any]) -> None:
    """Let an application work with the sessions of one more manager."""
    served = served_by(application)
    served.bindings.add(binding)
    _serve(application, served)


def serve_persistence(application: AnyApplication, persistence: SessionPersistence) -> None:
    """Let an application work with data that is loaded with each update."""
    _serve(application, served_by(application)._replace(persistence=persistence))
    persistence.set_bot(application.bot)
    application.persistence = persistence
    if persistence.stored.user_data:
        application.user_data = DataOfUpdate(persistence, "user_data")
    if persistence.stored.chat_data:
        application.chat_data = DataOfUpdate(persistence, "chat_data")


def served_by(application: AnyApplication) -> Served:
    """What was set up for an application."""
    if isinstance(application, ServedApplication):
        return application.served
    return Served(SessionBindings(), methods=methods_of_bot(application.bot))


def _serve(application: AnyApplication, served: Served) -> None:
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
