"""The bytes of one manager's sessions: load a value, dump it, tell whether it is unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from chatsession.errors import SessionDecodeError, SessionEncodeError, SessionError, SessionTooLargeError, shown
from chatsession.serialization.codec import Codec, CodecError, JsonCodec, ValueCopies
from chatsession.serialization.decoded_cache import DecodedCache
from chatsession.serialization.envelope import StoredAction, looks_enveloped
from chatsession.serialization.pipeline import Pipeline, Unpacked

if TYPE_CHECKING:
    from chatsession.options import SessionOptions
    from chatsession.storages import Storage

T = TypeVar("T")

_LARGE = 32 * 1024
"""Bytes from which on it is proven, where possible, that a value can be read back. Smaller ones are read back, because
the next update needs the result, and `DecodedCache` has room for those of some hundred chats."""


class Serializer(Generic[T]):
    """Turns values into what a storage keeps, and back.

    Args:
        options: of the manager.
        storage: where the sessions are kept.
        ttl: seconds that a session lives, if it expires at all.

    Raises:
        SessionError: the storage keeps values instead of bytes, and an option needs bytes.
    """

    __slots__ = (
        "_carry_over",
        "_codec",
        "_comparable",
        "_decoded",
        "_exact",
        "_initial",
        "_json",
        "_max_size",
        "_may_hide",
        "_proves",
        "_raw_decode",
        "_raw_encode",
        "_reads_bare",
        "_same",
        "_verbatim",
        "_writes_bare",
        "pipeline",
    )

    def __init__(self, options: SessionOptions[T], storage: Storage, ttl: float | None) -> None:
        adapter = storage.keeps_values
        if adapter and (options.encryption_keys or options.compression is not None or options.deduplicate):
            raise SessionError(
                "encryption_keys, compression and deduplicate need a storage of bytes; a StorageAdapter gets values"
            )
        value_type = options.value_type
        codec: Codec[T] = ValueCopies(value_type) if adapter else options.codec or JsonCodec(value_type)
        json = codec if isinstance(codec, JsonCodec) else None
        pipeline = None if adapter else Pipeline(options, json=json is not None, ttl=ttl)
        self.pipeline: Pipeline | None = pipeline
        """The steps between a codec's bytes and what is stored; `None` where a storage keeps values."""
        self._reads_bare = pipeline is not None and pipeline.reads_bare
        self._writes_bare = pipeline is not None and pipeline.writes_bare
        self._codec = codec
        self._raw_encode = json.raw_encode if json else codec.encode
        self._raw_decode = json.raw_decode if json else codec.decode
        self._json = json
        self._same = json.same if json else None
        self._may_hide = json.may_hide if json else None
        self._proves = json.proves if json else None
        self._carry_over = json.carry_over if json else None
        self._decoded: DecodedCache[T] = DecodedCache()
        self._comparable = not adapter
        self._exact = bool(getattr(codec, "exact", False))
        self._verbatim = storage.verbatim
        self._initial = options.initial
        self._max_size = options.max_size

    def fresh(self, key: str) -> T:
        """A new value for a key under which nothing is stored; shared with no other key.

        Raises:
            SessionEncodeError: `initial` made a value that cannot be stored.
        """
        if self._initial is None:
            return cast("T", None)
        value = self._initial()
        try:
            # By way of bytes, because nothing else tells whether `initial` gives the same object each time.
            made = self._raw_decode(self._raw_encode(value))
            if self._json is not None:
                self._json.verify(value, made)
            return made
        except Exception:
            why = _reason(lambda given: self._codec.decode(self._codec.encode(given)), value)
            raise SessionEncodeError(f"initial() made a value that cannot be stored: {why}", key=key) from None

    def unpack(self, key: str, stored: bytes) -> Unpacked | None:
        """Take away what lies around the data; `None`: nothing does, and what is stored is the data.

        Raises:
            SessionDecodeError: it was altered or cut, or cannot be decrypted.
            SessionMigrationError: it could not be brought up to date.
        """
        if self._reads_bare and not looks_enveloped(stored):
            return None
        if self.pipeline is None:
            return None
        try:
            return self.pipeline.unpack(key, stored)
        except CodecError as error:
            raise SessionDecodeError(f"{error}; it is left as it is", key=key) from None

    def pack(
        self,
        key: str,
        data: bytes | None,
        beside: Unpacked | None,
        update: int | str | None,
        actions: tuple[StoredAction, ...] = (),
    ) -> bytes:
        """What to store.

        Args:
            key: the session key, with its prefix.
            data: the codec's output; `None`: nothing is left of the session.
            beside: what was stored beside the data before, and is kept.
            update: the update that did this, to be remembered.
            actions: of that update, which are not sent yet.
        """
        if beside is None and update is None and self._writes_bare and data is not None and not looks_enveloped(data):
            return data
        if self.pipeline is None:
            return cast("bytes", data)  # a value of any kind, `None` among them
        return self.pipeline.pack(key, data, beside, update, actions)

    def loads(self, key: str, data: bytes) -> T:
        """The value of some data.

        Raises:
            SessionDecodeError: it does not fit the type.
        """
        value = self._decoded.take(key, data)
        if value is not None:
            return value
        try:
            return self._raw_decode(data)
        except Exception:
            raise SessionDecodeError(
                f"what is stored does not fit its type: {_reason(self._codec.decode, data)}; it is left as it is "
                "(mend it, or choose another on_decode_error)",
                key=key,
            ) from None

    def dumps(self, key: str, value: T, stored: bytes | None) -> bytes | None:
        """The data of a value, or `None` if the stored data means the same.

        Args:
            key: the session key, with its prefix.
            value: the value.
            stored: the data that is stored now; `None`: there is none.

        Raises:
            SessionEncodeError: the value has no data from which it could be read back.
            SessionTooLargeError: the data has more than `max_size` bytes.
        """
        try:
            data = self._raw_encode(value)
        except Exception:
            raise self._unencodable(key, value) from None
        if not self._comparable:
            return data
        if stored:
            own = self._decoded.is_own(key, stored)
            comparable = self._exact and (self._verbatim or own)
            if data == stored or (not comparable and self._raw_encode(self._raw_decode(stored)) == data):
                if self._may_hide is not None and self._may_hide(value):
                    # Refuses what was changed and would not be stored; the next update need not decode it then.
                    read_back = self._read_back(key, data, value)
                    if data == stored:
                        self._decoded.put(key, data, read_back)
                return None
            if self._carry_over is not None and not own:
                return self._carried_over(key, value, stored, data)
        self._decoded.put(key, data, self._read_back(key, data, value))
        return data

    def fingerprint(self, key: str, value: T) -> object:
        """What a value is like now; compared later, it tells whether anything in it was changed."""
        data = self.dumps(key, value, None)
        return data if self._comparable else _as_text(data)

    def _carried_over(self, key: str, value: T, stored: bytes, data: bytes) -> bytes | None:
        """The data, with the stored fields that the type does not know."""
        assert self._carry_over is not None
        try:
            carrying = self._carry_over(stored, data)
        except CodecError as error:
            raise SessionEncodeError(f"{error}, and would be lost; nothing was written", key=key) from None
        read_back = self._read_back(key, carrying, value)
        if carrying == stored:
            return None
        if carrying is data:
            self._decoded.put(key, data, read_back)
        return carrying

    def _read_back(self, key: str, data: bytes, value: T) -> T | None:
        """Make sure that the data can be stored, and that what is read again is the value.

        Returns:
            What was read; `None` if there was no need to read it.
        """
        if len(data) > self._max_size:
            raise SessionTooLargeError(_too_large(data, self._max_size), key=key)
        if len(data) >= _LARGE and self._is_proven(value):
            return None
        try:
            read_back = self._raw_decode(data)
        except Exception:
            why = _reason(self._codec.decode, data)
            raise SessionEncodeError(
                f"the value does not fit its type and could not be read back: {why}; nothing was written", key=key
            ) from None
        if self._same is None:
            return read_back
        try:
            same = self._same(value, read_back)
        except Exception:  # of a class's own `__eq__`, or since it is nested deeply
            same = False
        if not same:
            self._verify(key, value, read_back)
        return read_back

    def _is_proven(self, value: T) -> bool:
        if self._proves is None:
            return False
        try:
            return self._proves((value,))
        except Exception:  # a field was deleted, or it is nested deeply
            return False

    def _verify(self, key: str, value: T, read_back: T) -> None:
        assert self._json is not None
        try:
            self._json.verify(value, read_back)
        except CodecError as error:
            raise SessionEncodeError(f"{error}; nothing was written", key=key) from None

    def _unencodable(self, key: str, value: T) -> SessionEncodeError:
        return SessionEncodeError(f"{_reason(self._codec.encode, value)}; nothing was written", key=key)


def _as_text(value: object) -> bytes | None:
    """An adapter's value as bytes, to be compared only; `None` where that cannot be done."""
    try:
        return msgspec.json.encode(value, enc_hook=vars)
    except Exception:
        return None


def _reason(step: Callable[[Any], object], given: object) -> str:
    """Why a codec's step fails; of foreign exceptions only the name, since their text may quote data."""
    try:
        step(given)
    except CodecError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__} in the codec"
    return "the codec failed once, and not when it was asked why"


def _too_large(data: bytes, limit: int) -> str:
    message = f"{len(data):,} bytes are more than max_size ({limit:,}); nothing was written"
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return message
    biggest = sorted(((len(bytes(raw)), name) for name, raw in fields.items()), reverse=True)[:3]
    return f"{message}. Biggest fields: " + ", ".join(f"{shown(name)} {size:,} bytes" for size, name in biggest)
