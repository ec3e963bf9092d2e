"""The options of a kind of session, with their defaults."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import EnumType
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, cast, get_origin, get_type_hints, is_typeddict

from chatsession.keys import GetSessionKey, per_chat
from chatsession.observing import SessionEvent
from chatsession.serialization.codec import Codec, JsonCodec
from chatsession.serialization.migrations import Migration
from chatsession.storages import Storage
from chatsession.storages.adapter import StorageAdapter

T = TypeVar("T")

Concurrency: TypeAlias = Literal["exclusive", "optimistic", "last-write-wins"]
OnDecodeError: TypeAlias = Literal["raise", "quarantine", "reset"]
Expiry: TypeAlias = Literal["sliding", "fixed"]


@dataclass(frozen=True, kw_only=True)
class SessionOptions(Generic[T]):
    """How sessions of one kind are made, found, guarded and kept.

    Args:
        initial: makes the value of a session that is not stored; a class, or a function without parameters. Without
            it such a session is `None`.
        type: what stored data must fit; needed only when `initial` is neither a class nor has a return annotation.
        storage: a `Storage`, a `StorageAdapter` of your own, or a URL for `open_storage`; without it sessions live
            in memory and end with the process, which one log line says at start.
        get_session_key: from the context of an update to the key of its session; may be async.
        prefix: is put before every key.
        ttl: seconds (or a `timedelta`) after the last access at which a session is forgotten.
        expiry: `"sliding"`: `ttl` counts from the last access; `"fixed"`: from when the session was first stored.
        migrations: brings data of older versions of your bot up to date: functions from old data to new, by version,
            as in `{1: f, 2: g, 10.1: h}` (see `chatsession.serialization.migrations.Migrations`).
        concurrency: `"exclusive"`: updates of one key run one after another; `"optimistic"`: they run in
            parallel, and the one that commits second gets a `SessionConflictError`; `"last-write-wins"`: no
            protection at all.
        lock_timeout: seconds to wait for a key at most.
        lock_lease: seconds after which the key of a process that died is free again.
        max_size: bytes that an encoded session may have at most.
        codec: how values become bytes; without it, JSON.
        encryption_keys: encrypt what is stored; the newest key first, older ones after it to read what they encrypted.
            Each is 32 bytes or their base64, see `generate_encryption_key`.
        allow_unencrypted: read what is not encrypted although there are `encryption_keys`, while old data is changed.
        compression: bytes above which what is stored is compressed (Zstandard); `None`: never.
        deduplicate: so many updates are remembered with each session, and do not run their handler when Telegram
            delivers them again; 0: none. A lazy session is then loaded before its handler.
        merge: makes one session of two when a group that became a supergroup had one under either id: called with
            the old chat's data and the new one's. Without it the new one's stays, and the old one's is set aside.
        on_decode_error: what to do with stored data that does not fit the type: `"raise"` a `SessionDecodeError`;
            `"quarantine"`: set it aside under another key and start afresh; `"reset"`: start afresh.
        observe: called with a `SessionEvent` when a session has ended, for metrics, traces and logs; see
            `chatsession.telemetry` for OpenTelemetry, and `log_sessions`.
        name: under which name sessions are given to handlers.

    Raises:
        ValueError: an option has a value that makes no sense.
        TypeError: `initial` needs parameters, or the types do not fit each other.
    """

    initial: Callable[[], T] | None = None
    type: builtins.type[T] | None = None
    storage: Storage | StorageAdapter[T] | str | None = field(default=None, repr=False)  # a URL may hold a password
    get_session_key: GetSessionKey = per_chat
    prefix: str = ""
    ttl: float | timedelta | None = None
    expiry: Expiry = "sliding"
    migrations: Mapping[float, Migration] | None = None
    concurrency: Concurrency = "exclusive"
    lock_timeout: float = 60.0
    lock_lease: float = 20.0
    max_size: int = 16 * 1024 * 1024
    codec: Codec[T] | None = None
    encryption_keys: Sequence[str | bytes] = field(default=(), repr=False)
    allow_unencrypted: bool = False
    compression: int | None = None
    deduplicate: int = 0
    merge: Callable[[T, T], T] | None = None
    on_decode_error: OnDecodeError = "raise"
    observe: Callable[[SessionEvent], object] | None = None
    name: str = "session"

    def __post_init__(self) -> None:
        for option, choices in (
            ("concurrency", ("exclusive", "optimistic", "last-write-wins")),
            ("on_decode_error", ("raise", "quarantine", "reset")),
            ("expiry", ("sliding", "fixed")),
        ):
            if getattr(self, option) not in choices:
                raise ValueError(f"{option} must be one of {', '.join(choices)}, not {getattr(self, option)!r}")
        for option in ("lock_timeout", "lock_lease", "max_size"):
            if getattr(self, option) <= 0:
                raise ValueError(f"{option} must be positive, not {getattr(self, option)!r}")
        for option in ("compression", "deduplicate"):
            if (getattr(self, option) or 0) < 0:
                raise ValueError(f"{option} cannot be negative, as {getattr(self, option)!r} is")
        if self.migrations is not None and self.codec is not None and not isinstance(self.codec, JsonCodec):
            raise TypeError("migrations work on JSON data; use them without a codec of your own, or with JsonCodec")
        if self.ttl is not None and self.ttl_seconds <= 0:
            raise ValueError(f"ttl must be positive, not {self.ttl!r}; without it sessions are kept for ever")
        if not self.name.isidentifier():
            raise ValueError(f"name is an attribute or parameter of your handlers, which {self.name!r} cannot be")
        if self.initial is not None:
            _check_callable(self.initial)
            _check_made(self.initial, self.type)

    @property
    def ttl_seconds(self) -> float:
        """The time to live in seconds; 0: for ever."""
        return self.ttl.total_seconds() if isinstance(self.ttl, timedelta) else float(self.ttl or 0)

    @property
    def value_type(self) -> object:
        """The type of the values: `type`, or what `initial` tells; `typing.Any` if neither is known."""
        if self.type is not None or self.initial is None:
            return Any if self.type is None else self.type
        initial = self.initial
        while isinstance(initial, functools.partial):
            initial = cast("functools.partial[T]", initial).func
        if isinstance(initial, builtins.type) or get_origin(initial) is not None:
            return initial
        call = initial if inspect.isroutine(initial) else initial.__call__
        try:
            return get_type_hints(call).get("return", Any)
        except NameError as error:
            raise TypeError(f"the return annotation of initial cannot be resolved ({error}); pass type=…") from None


def _check_made(initial: object, wanted: object) -> None:
    """A class makes what it is called, which must fit `type`; of functions and generic types nothing is known here."""
    if not isinstance(initial, builtins.type) or not isinstance(wanted, builtins.type):
        return
    if is_typeddict(wanted) or getattr(wanted, "_is_protocol", False) or (initial, wanted) == (int, float):
        return
    if not issubclass(initial, wanted):
        raise TypeError(f"initial makes a {initial.__name__}, which does not fit type={wanted.__name__}")


class SessionKeywords(TypedDict, Generic[T], total=False):
    """The options other than `initial` and `type`, as keywords (see `SessionOptions`)."""

    storage: Storage | StorageAdapter[T] | str | None
    get_session_key: GetSessionKey
    prefix: str
    ttl: float | timedelta | None
    expiry: Expiry
    migrations: Mapping[float, Migration] | None
    concurrency: Concurrency
    lock_timeout: float
    lock_lease: float
    max_size: int
    codec: Codec[T] | None
    encryption_keys: Sequence[str | bytes]
    allow_unencrypted: bool
    compression: int | None
    deduplicate: int
    merge: Callable[[T, T], T] | None
    on_decode_error: OnDecodeError
    observe: Callable[[SessionEvent], object] | None
    name: str


def _check_callable(initial: object) -> None:
    if not callable(initial):
        raise TypeError(f"initial must be a class or a function, not {initial!r}; write initial=lambda: …")
    if inspect.iscoroutinefunction(initial):
        raise TypeError("initial must not be async: it is called when a handler first looks at the session")
    if isinstance(initial, EnumType):  # its signature takes anything from Python 3.13 on
        raise TypeError(
            f"initial is called without arguments, but {initial!r} needs the value of a member; write initial=lambda: …"
        )
    try:
        inspect.signature(initial).bind()
    except TypeError as error:
        raise TypeError(
            f"initial is called without arguments, but {initial!r} needs some ({error}); "
            "give its fields defaults, or write a function"
        ) from None
    except ValueError:  # some built-in classes have no signature to look at
        pass
