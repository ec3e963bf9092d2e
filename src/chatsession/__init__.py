"""Typed, durable, race-free sessions for chat bots.

The public names, and nothing else. Storages, integrations and the testing aids are in modules of their own.
"""

from chatsession.errors import (
    SessionActionError,
    SessionClosedError,
    SessionConflictError,
    SessionDecodeError,
    SessionDecryptError,
    SessionEncodeError,
    SessionError,
    SessionKeyError,
    SessionLockTimeoutError,
    SessionMigrationError,
    SessionTooLargeError,
    SessionUnsentError,
    StorageError,
    StorageUnavailableError,
)
from chatsession.factories import lazy_session, multi_session, session
from chatsession.flavors import LazySessionFlavor, SessionAttribute, SessionFlavor
from chatsession.keys import per_chat, per_topic, per_user, per_user_in_chat
from chatsession.manager import SessionGroup, SessionManager
from chatsession.observing import SessionEvent, log_sessions
from chatsession.options import SessionOptions
from chatsession.serialization.codec import Codec, JsonCodec
from chatsession.serialization.encryption import generate_encryption_key
from chatsession.storages import Storage, open_storage
from chatsession.storages.adapter import StorageAdapter
from chatsession.storages.enhanced import enhance_storage
from chatsession.storages.memory import MemoryStorage
from chatsession.unit_of_work.lazy import LazySession
from chatsession.unit_of_work.rewrite import RewriteReport
from chatsession.unit_of_work.session import Session

__version__ = "0.1.0"

__all__ = [
    "Codec",
    "JsonCodec",
    "LazySession",
    "LazySessionFlavor",
    "MemoryStorage",
    "RewriteReport",
    "Session",
    "SessionActionError",
    "SessionAttribute",
    "SessionClosedError",
    "SessionConflictError",
    "SessionDecodeError",
    "SessionDecryptError",
    "SessionEncodeError",
    "SessionError",
    "SessionEvent",
    "SessionFlavor",
    "SessionGroup",
    "SessionKeyError",
    "SessionLockTimeoutError",
    "SessionManager",
    "SessionMigrationError",
    "SessionOptions",
    "SessionTooLargeError",
    "SessionUnsentError",
    "Storage",
    "StorageAdapter",
    "StorageError",
    "StorageUnavailableError",
    "enhance_storage",
    "generate_encryption_key",
    "lazy_session",
    "log_sessions",
    "multi_session",
    "open_storage",
    "per_chat",
    "per_topic",
    "per_user",
    "per_user_in_chat",
    "session",
]
