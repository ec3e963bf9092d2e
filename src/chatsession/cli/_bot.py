"""What commands use of the bot's own program, named as `module:name`."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from typing import Annotated, Any

import typer

from chatsession.cli._running import USAGE, CommandError
from chatsession.importers import StateStorage
from chatsession.manager import SessionManager

Sessions = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The bot's SessionManager, as in bot:sessions.")]


def manager_named(path: str) -> SessionManager[Any]:
    """Import a manager, `module:name`, from the working directory too."""
    found = _imported(path)
    if not isinstance(found, SessionManager):
        raise CommandError(USAGE, f"{path} is a {type(found).__name__}, and not a SessionManager")
    return found  # pyright: ignore[reportUnknownVariableType] - of any kind of session


def manager_or_states_named(path: str) -> SessionManager[Any] | StateStorage:
    """As `manager_named`, or the storage that a bot's `setup_fsm` gave."""
    found: Any = _imported(path)
    if hasattr(found, "key_of_ids") and isinstance(getattr(found, "sessions", None), SessionManager):
        return found
    return manager_named(path)


def application_named(path: str) -> Any:
    """Import an application of python-telegram-bot for which `setup_persistence` was called."""
    found: Any = _imported(path)
    if not hasattr(getattr(found, "persistence", None), "conversations"):
        kind = type(found).__name__
        raise CommandError(USAGE, f"{path} is a {kind}, for which setup_persistence() was not called")
    return found


def _imported(path: str) -> object:
    module, _, name = path.partition(":")
    if not module or not name or name.startswith("//"):
        raise CommandError(USAGE, "name the bot's SessionManager as module:name, such as bot:sessions")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise CommandError(USAGE, f"{path} cannot be imported: {error}") from None
