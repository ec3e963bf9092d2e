"""Sessions in an SQLite file: the storage to start with, and enough for any bot on one machine."""

from chatsession.storages.sqlite._connection import Synchronous
from chatsession.storages.sqlite._storage import SQLiteStorage
from chatsession.storages.sqlite._url import from_url

__all__ = ["SQLiteStorage", "Synchronous", "from_url"]
