"""Imports the data of other libraries into the sessions of a `SessionManager`.

A module for each source reads entries: `chatsession.importers.ptb`, `chatsession.importers.aiogram_fsm`,
`chatsession.importers.grammy`, and for states `chatsession.importers.aiogram_mongo` and
`chatsession.importers.telebot_states`. `import_into` stores them as sessions, and `import_states` as states.
"""

from chatsession.importers._entries import Entry
from chatsession.importers._importing import ImportReport, import_into
from chatsession.importers._states import StateStorage, import_states

__all__ = ["Entry", "ImportReport", "StateStorage", "import_into", "import_states"]
