"""The options of a kind of session, with their defaults."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import EnumType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_origin, get_type_hints, is_typeddict

from chatsession._option_checks import check_options
from chatsession._signatures import signature_of
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
    """The options of one kind of session.

    Args:
        initial: makes the value of a new session: a class, or a function without parameters. Without it, the value of a
            new session is `None`.
        type: the type that stored data must fit. Needed only when `initial` is neither a class nor has a return
            annotation.
        storage: where sessions are kept: a `Storage`, your own `StorageAdapter`, or a URL for `open_storage`. Without
            it, they are kept in memory and lost when the process ends; the log says so at start.
        get_session_key: returns the key of the session for the context of an update; may be async. `None` means that
            the update has no session.
        prefix: put before every key. Managers that share a storage need different prefixes.
        ttl: how long a session is kept, in seconds or as a `timedelta`; `None`: for ever. See `expiry`.
        expiry: `"sliding"`: `ttl` counts from the last access; `"fixed"`: from when the session was first stored.
        migrations: functions that convert the data of older versions of your bot, by version: `{1: f, 2: g, 10.1: h}`.
            Those above the stored version run in order; the next write stores the result.
        concurrency: `"exclusive"`: updates of one key run one after another, in all processes that share the storage;
            `"optimistic"`: they run in parallel, and the one that commits second gets a `SessionConflictError`;
            `"last-write-wins"`: they run in parallel, and the last commit overwrites the others.
        lock_timeout: seconds to wait while the queue of a key makes no progress, before `SessionLockTimeoutError`;
            `None`: for ever.
        lock_lease: seconds after which the lock of a dead process is free again. It is renewed while a handler runs.
        max_size: the largest size of an encoded session, in bytes. A larger one is refused with
            `SessionTooLargeError`.
        codec: converts values to bytes and back; without it, JSON.
        encryption_keys: the first key encrypts what is stored; the others only decrypt what they encrypted earlier.
            Each is 32 bytes or their base64; see `generate_encryption_key`.
        allow_unencrypted: with `encryption_keys`, also read sessions that are not encrypted yet.
        compression: compress encoded sessions of more than this many bytes (Zstandard); `None`: never.
        deduplicate: how many updates each session remembers. When Telegram delivers one of them again, its handler
            does not run again. 0: none. With it, a lazy session is loaded before its handler runs.
        merge: combines two sessions when a group becomes a supergroup and both ids have one; called with the value of
            the old id and that of the new one. Without it, the new id's session is kept and the old one is set aside.
        on_decode_error: what happens to stored data that does not fit the type. `"raise"`: a `SessionDecodeError`;
            `"quarantine"`: it is set aside under another key, and the session starts afresh; `"reset"`: it is
            dropped, and the session starts afresh.
        observe: called with a `SessionEvent` when a session ends, for metrics, traces and logs; see
            `chatsession.telemetry` for OpenTelemetry, and `log_sessions`.
        name: the context attribute or handler parameter that holds the session.

    Raises:
        TypeError: an option has a value of a type that it does not take, or the types do not fit each other.
        ValueError: an option has a value that makes no sense.
    """

    initial: Callable[[], T] | None = None
    """Makes the value of a new session: a class, or a function without parameters."""
    type: builtins.type[T] | None = None
    """The type that stored data must fit; without it, the one that `initial` makes."""
    storage: Storage | StorageAdapter[T] | str | None = field(default=None, repr=False)  # a URL may hold a password
    """Where sessions are kept: a `Storage`, your own `StorageAdapter`, or a URL; without it, in memory."""
    get_session_key: GetSessionKey = per_chat
    """Returns the key of the session for the context of an update; may be async."""
    prefix: str = ""
    """Put before every key, so that managers can share a storage."""
    ttl: float | timedelta | None = None
    """How long a session is kept, in seconds or as a `timedelta`; `None`: for ever."""
    expiry: Expiry = "sliding"
    """Whether `ttl` counts from the last access (`"sliding"`) or from when the session was first stored (`"fixed"`)."""
    migrations: Mapping[float, Migration] | None = None
    """Functions that convert the data of older versions of your bot, by version: `{1: f, 2: g}`."""
    concurrency: Concurrency = "exclusive"
    """What happens to concurrent updates of one key: `"exclusive"`, `"optimistic"` or `"last-write-wins"`."""
    lock_timeout: float | None = 60.0
    """Seconds to wait while the queue of a key makes no progress; `None`: for ever."""
    lock_lease: float = 20.0
    """Seconds after which the lock of a dead process is free again."""
    max_size: int = 16 * 1024 * 1024
    """The largest size of an encoded session, in bytes."""
    codec: Codec[T] | None = None
    """Converts values to bytes and back; without it, JSON."""
    encryption_keys: Sequence[str | bytes] = field(default=(), repr=False)
    """The first key encrypts what is stored; the others only decrypt what they encrypted earlier."""
    allow_unencrypted: bool = False
    """With `encryption_keys`, also read sessions that are not encrypted yet."""
    compression: int | None = None
    """Compress encoded sessions of more than this many bytes; `None`: never."""
    deduplicate: int = 0
    """How many updates each session remembers, so that a redelivered one does not run again."""
    merge: Callable[[T, T], T] | None = None
    """Combines two sessions when a group becomes a supergroup and both ids have one."""
    on_decode_error: OnDecodeError = "raise"
    """What happens to stored data that does not fit the type: `"raise"`, `"quarantine"` or `"reset"`."""
    observe: Callable[[SessionEvent], object] | None = None
    """Called with a `SessionEvent` when a session ends."""
    name: str = "session"
    """The context attribute or handler parameter that holds the session."""

    def __post_init__(self) -> None:
        check_options(vars(self))
        if self.migrations is not None and self.codec is not None and not isinstance(self.codec, JsonCodec):
            raise TypeError("migrations work on JSON data; use them without a codec of your own, or with JsonCodec")
        if self.initial is not None:
            _check_callable(self.initial)
            _check_made(self.initial, self.type)

    @property
    def ttl_seconds(self) -> float:
        """The time to live in seconds; 0: for ever."""
        return self.ttl.total_seconds() if isinstance(self.ttl, timedelta) else float(self.ttl or 0)

    @property
    def value_type(self) -> object:
        """The type of the values: `type`, or what `initial` makes; `typing.Any` if neither is known."""
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
    """The instances of a class must fit `type`; nothing is known here of what functions and generic types make."""
    if not isinstance(initial, builtins.type) or not isinstance(wanted, builtins.type):
        return
    if is_typeddict(wanted) or getattr(wanted, "_is_protocol", False) or (initial, wanted) == (int, float):
        return
    if not issubclass(initial, wanted):
        raise TypeError(f"initial makes a {initial.__name__}, which does not fit type={wanted.__name__}")


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
        signature_of(initial).bind()
    except TypeError as error:
        raise TypeError(
            f"initial is called without arguments, but {initial!r} needs some ({error}); "
            "give its fields defaults, or write a function"
        ) from None
    except ValueError:  # there is no signature to look at
        pass
