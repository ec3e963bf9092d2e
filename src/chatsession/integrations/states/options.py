"""The options of what keeps the states and data of a framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypedDict

from chatsession.integrations.states.records import StateCodec, StateRecord, empty_record
from chatsession.observing import SessionEvent
from chatsession.options import OnDecodeError, SessionOptions
from chatsession.storages import Storage


class StateOptions(TypedDict, total=False):
    """Options of what keeps a framework's states and data, which mean the same as those of `SessionManager`.

    Attributes:
        prefix: is put before every key, and must not be that of a `SessionManager` on the same storage.
        ttl: seconds (or a `timedelta`) after its last update at which a conversation is forgotten.
        lock_timeout: seconds for which a conversation may make no progress; `None`: wait for ever.
        lock_lease: seconds after which a conversation whose process died is free again.
        max_size: bytes that an encoded record may have at most.
        encryption_keys: encrypt what is stored.
        allow_unencrypted: read what is not encrypted although there are `encryption_keys`.
        compression: bytes above which what is stored is compressed; `None`: never.
        deduplicate: how many updates are remembered with each conversation, and not handled again.
        on_decode_error: what to do with stored data that is no record of a conversation.
        observe: called with a `SessionEvent` when a unit of work has ended.
    """

    prefix: str
    ttl: float | timedelta | None
    lock_timeout: float | None
    lock_lease: float
    max_size: int
    encryption_keys: Sequence[str | bytes]
    allow_unencrypted: bool
    compression: int | None
    deduplicate: int
    on_decode_error: OnDecodeError
    observe: Callable[[SessionEvent], object] | None


def options_of(storage: Storage | str | None, options: StateOptions) -> SessionOptions[StateRecord]:
    """The options of the sessions that keep states. Raises `TypeError` for an option that there is not."""
    check_names(options)
    return SessionOptions(initial=empty_record, storage=storage, codec=StateCodec(), name="state", **options)


def check_names(options: StateOptions) -> None:
    """Raises `TypeError` for an option that there is not."""
    for name in options.keys() - StateOptions.__annotations__.keys():
        raise TypeError(f"states have no option {name!r}")
