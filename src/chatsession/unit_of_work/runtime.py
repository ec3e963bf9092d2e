"""A manager's options made ready: what a session needs to know, worked out once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from chatsession.coordination.coordinator import Coordinator, coordinator_of
from chatsession.errors import (
    SessionClosedError,
    SessionDecodeError,
    SessionEncodeError,
    SessionError,
    SessionTooLargeError,
    shown,
)
from chatsession.options import SessionOptions
from chatsession.serialization.codec import Codec, CodecError, JsonCodec, ValueCopies
from chatsession.serialization.decoded_cache import DecodedCache
from chatsession.serialization.envelope import looks_enveloped
from chatsession.serialization.pipeline import Pipeline, Unpacked
from chatsession.storages import Action, Change, Record, Storage
from chatsession.storages.adapter import AdapterStorage

T = TypeVar("T")

_log = logging.getLogger("chatsession")

QUARANTINE = "!quarantine:"
"""Begins the keys under which undecodable data is set aside."""
MOVED = "!moved:"
"""Begins the keys under which the data of a chat is set aside that moved to where there was some already."""
ASIDE = (QUARANTINE, MOVED)
"""What is set aside is no session, and is not enumerated."""


class Runtime(Generic[T]):
    """How one manager's sessions are loaded and stored, and how many are open."""

    __slots__ = (
        "_all_left",
        "_carry_over",
        "_check",
        "_closed",
        "_codec",
        "_comparable",
        "_exact",
        "_initial",
        "_max_size",
        "_on_decode_error",
        "_raw_decode",
        "_raw_encode",
        "_ready",
        "_verbatim",
        "active",
        "bare",
        "coordinator",
        "deduplicate",
        "exclusive",
        "form",
        "lock_lease",
        "lock_timeout",
        "merge",
        "prefix",
        "running",
        "sliding",
        "ttl",
        "unchecked",
    )

    def __init__(self, options: SessionOptions[T], storage: Storage) -> None:
        adapter = isinstance(storage, AdapterStorage)
        value_type = options.value_type
        codec: Codec[T] = ValueCopies(value_type) if adapter else options.codec or JsonCodec(value_type)
        if options.ttl and not storage.expiring:
            raise SessionError(
                f"ttl needs a storage with expiry, which {storage!r} has not; let the adapter expire its data itself"
            )
        if adapter and (options.encryption_keys or options.compression is not None or options.deduplicate):
            raise SessionError(
                "encryption_keys, compression and deduplicate need a storage of bytes; a StorageAdapter gets values"
            )
        self.coordinator: Coordinator = coordinator_of(storage)
        self.prefix: str = options.prefix
        self.exclusive: bool = options.concurrency == "exclusive"
        self.unchecked: bool = options.concurrency == "last-write-wins" or (adapter and self.exclusive)
        self.lock_timeout: float = options.lock_timeout
        self.lock_lease: float = options.lock_lease
        self.ttl: float | None = options.ttl_seconds or storage.time_to_live
        self.sliding: bool = options.expiry == "sliding"
        self.deduplicate: bool = options.deduplicate > 0
        self.merge: Callable[[T, T], T] | None = options.merge
        self._codec = codec
        json = codec if isinstance(codec, JsonCodec) else None
        self._raw_encode = json.raw_encode if json else codec.encode
        self._raw_decode = json.raw_decode if json else codec.decode
        self._check = json.check if json else None
        self._carry_over = json.carry_over if json else None
        self._comparable = not adapter
        self._ready: DecodedCache[T] = DecodedCache()
        self.form: Pipeline | None = None if adapter else Pipeline(options, json=json is not None, ttl=self.ttl)
        self.bare: bool = self.form is not None and self.form.writes_bare and json is not None
        """JSON that does not look like an envelope is stored as it is, and read so."""
        self._exact = bool(getattr(codec, "exact", False))
        self._verbatim = storage.verbatim
        self._initial = options.initial
        self._max_size = options.max_size
        self._on_decode_error = options.on_decode_error
        self.active: int = 0
        self._all_left: asyncio.Future[None] | None = None
        self._closed = False
        self.running: bool = False
        """Sessions may begin."""

    async def admit(self, key: str | None = None) -> None:
        """Let a session begin: connect if that was not done. Raises `SessionClosedError` once the manager is closed."""
        if not self._closed:
            await self.start()
        if self._closed:  # before, or while the storage was opened
            raise SessionClosedError(
                "its manager is closed; open the session before aclose(), or start the manager again", key=key
            )

    def leave(self) -> None:
        """Count a session as closed; whoever lets one begin adds it to `active`."""
        self.active -= 1
        if self._all_left is not None and self.active == 0:
            self._all_left.set_result(None)
            self._all_left = None

    async def start(self) -> None:
        """Connect, and let sessions be opened (again)."""
        self._closed = False
        await self.coordinator.join(self)
        self.running = not self._closed

    async def stop(self, timeout: float) -> int:
        """Let no session begin any more, wait for those that are open, let go of the storage.

        Returns how many sessions were still open after `timeout` seconds.
        """
        self._closed = True
        self.running = False
        if self.active:
            self._all_left = self._all_left or asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_left], timeout=timeout)
        await self.coordinator.part(self)
        return self.active

    def fresh(self, key: str) -> T:
        """A new value for a key under which nothing is stored; shared with no other key (rule 2)."""
        if self._initial is None:
            return cast("T", None)
        value = self._initial()
        try:
            # By way of bytes, because nothing else tells whether `initial` gives the same object each time.
            made = self._raw_decode(self._raw_encode(value))
            if self._check is not None:
                self._check(value)
            return made
        except Exception:
            why = _reason(lambda given: self._codec.decode(self._codec.encode(given)), value)
            raise SessionEncodeError(f"initial() made a value that cannot be stored: {why}", key=key) from None

    def opened(self, key: str, stored: bytes) -> Unpacked | None:
        """What is stored, less all that lies round the data; `None` where that is nothing.

        Raises:
            SessionDecodeError: it was altered or cut, or cannot be decrypted.
            SessionMigrationError: it could not be brought up to date.
        """
        form = self.form
        if form is None or (form.reads_bare and not looks_enveloped(stored)):
            return None
        try:
            return form.open(key, stored)
        except CodecError as error:
            raise SessionDecodeError(f"{error}; it is left as it is", key=key) from None

    def sealed(
        self, key: str, data: bytes | None, beside: Unpacked | None, update: int | str | None
    ) -> tuple[bytes, Unpacked | None]:
        """What to store, and what `opened` would make of it; see `Pipeline.seal`."""
        form = self.form
        if form is None:
            return cast("bytes", data), None  # a value of any kind, `None` among them
        if beside is None and update is None and form.writes_bare and data is not None and not looks_enveloped(data):
            return data, None
        return form.seal(key, data, beside, update)

    def decode(self, key: str, data: bytes) -> T:
        """The value in it. Raises `SessionDecodeError`."""
        value = self._ready.take(key, data)
        if value is not None:
            return value
        try:
            return self._raw_decode(data)
        except Exception:
            raise self._misfit(key, data) from None

    def encode(self, key: str, value: T, stored: bytes | None) -> bytes | None:
        """The bytes of a value, or `None` if those that are stored mean the same (rule 4).

        Raises:
            SessionEncodeError: the value has no stored form from which it could be read back.
            SessionTooLargeError: the stored form has more than `max_size` bytes.
        """
        try:
            encoded = self._raw_encode(value)
        except Exception:
            raise self._unencodable(key, value) from None
        if not self._comparable:
            return encoded
        ours = False
        if stored:
            if encoded == stored:
                return None
            ours = self._ready.is_own(key, stored)
            comparable = self._exact and (self._verbatim or ours)
            if not comparable and self._raw_encode(self._raw_decode(stored)) == encoded:
                return None
        if self._check is not None:
            try:
                self._check(value)
            except Exception:
                raise self._unencodable(key, value) from None
        if stored and self._carry_over is not None and not ours:
            return self._carried_over(key, stored, encoded)
        self._ready.put(key, encoded, self._read_back(key, encoded))
        return encoded

    def _carried_over(self, key: str, stored: bytes, encoded: bytes) -> bytes | None:
        """With what others have stored beside the data that the type knows."""
        assert self._carry_over is not None
        try:
            carrying = self._carry_over(stored, encoded)
        except CodecError as error:
            raise SessionEncodeError(f"{error}, and would be lost; nothing was written", key=key) from None
        if carrying == stored:
            return None
        value = self._read_back(key, carrying)
        if carrying is encoded:
            self._ready.put(key, encoded, value)
        return carrying

    def _read_back(self, key: str, encoded: bytes) -> T:
        """See that it can be stored and read again."""
        if len(encoded) > self._max_size:
            raise SessionTooLargeError(_too_large(encoded, self._max_size), key=key)
        try:
            return self._raw_decode(encoded)
        except Exception:
            raise self._unreadable(key, encoded) from None

    async def set_aside(self, key: str, record: Record, error: SessionError) -> None:
        """Do with undecodable data what the user chose: raise, or return after it is out of the way."""
        if self._on_decode_error == "raise":
            raise error
        if self._on_decode_error == "quarantine":
            aside = aside_key(QUARANTINE, key, record.value)
            await self.coordinator.commit(Change(aside, Action.PUT, record.value))
            _log.error("%s; it was set aside under %s, and the session starts afresh", error, shown(aside))
        else:
            _log.error("%s; the session starts afresh, as on_decode_error='reset' says", error)

    def _misfit(self, key: str, data: bytes) -> SessionDecodeError:
        return SessionDecodeError(
            f"what is stored does not fit its type: {_reason(self._codec.decode, data)}; it is left as it is "
            "(mend it, or choose another on_decode_error)",
            key=key,
        )

    def _unencodable(self, key: str, value: T) -> SessionEncodeError:
        return SessionEncodeError(f"{_reason(self._codec.encode, value)}; nothing was written", key=key)

    def _unreadable(self, key: str, encoded: bytes) -> SessionEncodeError:
        why = _reason(self._codec.decode, encoded)
        return SessionEncodeError(
            f"the value does not fit its type and could not be read back: {why}; nothing was written", key=key
        )


def aside_key(kind: str, key: str, data: bytes) -> str:
    """Where data is set aside: other data of the same key has another place, and the same data only one."""
    return f"{kind}{hashlib.sha256(data).hexdigest()[:16]}:{key}"


def _reason(step: Callable[[Any], object], given: object) -> str:
    """Why a codec's step fails; of foreign exceptions only the name, since their text may quote data."""
    try:
        step(given)
    except CodecError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__} in the codec"
    return "the codec failed once, and not when it was asked why"


def _too_large(encoded: bytes, limit: int) -> str:
    message = f"{len(encoded):,} bytes are more than max_size ({limit:,}); nothing was written"
    try:
        fields = msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return message
    biggest = sorted(((len(bytes(raw)), name) for name, raw in fields.items()), reverse=True)[:3]
    return f"{message}. Biggest fields: " + ", ".join(f"{shown(name)} {size:,} bytes" for size, name in biggest)
