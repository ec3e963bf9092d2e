"""Sessions in one SQLite file: the storage to start with, and to stay with on one machine."""

from chatsession.storages.sqlite._connection import Synchronous
from chatsession.storages.sqlite._storage import SQLiteStorage
from chatsession.storages.sqlite._url import from_url

__all__ = ["SQLiteStorage", "Synchronous", "from_url"]
