"""Where sessions are kept: the base of all back ends, the back ends, and `open_storage` to make one from a URL.

A back end is imported when it is first used, so that only its own driver must be installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chatsession.storages.base import (
    Action,
    Change,
    Committed,
    Expect,
    ImmediateStorage,
    Lease,
    Locked,
    LockRequest,
    Outcome,
    Page,
    Record,
    Refused,
    Storage,
    Version,
)
from chatsession.storages.urls import open_storage

if TYPE_CHECKING:
    from chatsession.storages.file import FileStorage
    from chatsession.storages.memory import MemoryStorage
    from chatsession.storages.mongo import MongoStorage
    from chatsession.storages.nats import NatsStorage
    from chatsession.storages.postgres import PostgresStorage
    from chatsession.storages.redis import RedisStorage
    from chatsession.storages.sqlite import SQLiteStorage

__all__ = [
    "Action",
    "Change",
    "Committed",
    "Expect",
    "FileStorage",
    "ImmediateStorage",
    "Lease",
    "LockRequest",
    "Locked",
    "MemoryStorage",
    "MongoStorage",
    "NatsStorage",
    "Outcome",
    "Page",
    "PostgresStorage",
    "Record",
    "RedisStorage",
    "Refused",
    "SQLiteStorage",
    "Storage",
    "Version",
    "open_storage",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.removesuffix('Storage').lower()}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
