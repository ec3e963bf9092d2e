"""Where sessions are kept: the base of all back ends, and `open_storage` to make one from a URL."""

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

__all__ = [
    "Action",
    "Change",
    "Committed",
    "Expect",
    "ImmediateStorage",
    "Lease",
    "LockRequest",
    "Locked",
    "Outcome",
    "Page",
    "Record",
    "Refused",
    "Storage",
    "Version",
    "open_storage",
]
