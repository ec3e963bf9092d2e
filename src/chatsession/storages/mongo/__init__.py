"""Sessions in MongoDB (6.0 or newer): BSON that people can query, shared by any number of processes.

Needs `pip install 'chatsession[mongo]'` (pymongo).
"""

try:
    from chatsession.storages.mongo._storage import MongoStorage
    from chatsession.storages.mongo._url import from_url
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("pymongo", "bson"):
        raise
    raise ImportError("sessions in MongoDB need pymongo: pip install 'chatsession[mongo]'") from error

__all__ = ["MongoStorage", "from_url"]
