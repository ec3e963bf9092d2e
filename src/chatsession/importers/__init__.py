"""Import existing data: the sessions of another library become those of a `SessionManager`.

A module for each origin reads entries: `chatsession.importers.ptb`, `chatsession.importers.aiogram_fsm`,
`chatsession.importers.grammy`. `import_into` stores them.
"""

from chatsession.importers._entries import Entry
from chatsession.importers._importing import ImportReport, import_into

__all__ = ["Entry", "ImportReport", "import_into"]
