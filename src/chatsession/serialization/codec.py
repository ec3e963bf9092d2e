"""Codecs convert values to bytes and back: typed JSON, checked in both directions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
from msgspec import Raw, inspect

from chatsession.serialization.comparison import difference
from chatsession.serialization.explanations import misfit, reason, unencodable, unsuitable, unsuitable_part
from chatsession.serialization.models import from_json, to_json
from chatsession.serialization.proof import proof
from chatsession.serialization.raw_json import plain
from chatsession.serialization.sameness import sameness
from chatsession.serialization.type_info import description_of, hiding, is_foreign, parts
from chatsession.serialization.unknown_fields import first_missing, known_names, shape_of, with_unknown
from chatsession.serialization.untyped import look_into

T = TypeVar("T")


class Codec(Protocol[T]):
    """Converts values to bytes and back. A manager uses it in place of `JsonCodec` if it is passed as `codec=`.

    `decode` must build a new value each time. Both may raise any exception, which the session turns into a
    `SessionEncodeError` or a `SessionDecodeError`; then nothing is written.
    """

    def encode(self, value: T) -> bytes:
        """Convert a value to the bytes to store."""
        ...

    def decode(self, data: bytes) -> T:
        """Convert bytes back to the value."""
        ...


class CodecError(ValueError):
    """Why a value or stored data does not fit. The message holds paths and types, never data."""


class JsonCodec(Generic[T]):
    """JSON by msgspec, checked against a type in both directions.

    Encodes dataclasses, msgspec Structs, TypedDicts, attrs classes, named tuples, enums, dates, UUIDs, decimals and
    containers of them; pydantic models by their own methods. Nothing in the data is ever executed or imported.

    What is encoded is decoded again and compared. A value that would not come back equal and of the same classes is
    refused when it is written: a string where the class says `int`, an object of a subclass, a tuple in an untyped
    part, a secret that prints as asterisks.

    Fields of a stored object that its class does not know, left by a newer or older version of the program, are kept
    at every depth for as long as the object that holds them is there.

    Args:
        type: what stored data must fit; `typing.Any`: any JSON.

    Raises:
        TypeError: values of this type cannot be stored as JSON.

    Examples:
        >>> from chatsession import JsonCodec
        >>> JsonCodec(dict[str, int]).decode(b'{"count": 1}')
        {'count': 1}
    """

    __slots__ = (
        "_has_models", "_look", "_shape", "_type", "exact", "may_hide", "proves", "raw_decode", "raw_encode", "same",
    )  # fmt: skip

    raw_decode: Callable[[bytes], T]
    """`decode` without an explanation of errors, for speed."""
    raw_encode: Callable[[T], bytes]
    """`encode` without an explanation of errors, and without the check of what would come back."""

    same: Callable[[T, T], bool]
    """A quick test whether the value that was read back is the one that was given; `False`: `verify` must decide."""

    proves: Callable[[Sequence[T]], bool] | None
    """Proves that values that were encoded will come back equal; `None`: that cannot be proven for this type."""

    may_hide: Callable[[T], bool] | None
    """Whether a value may hold something that its bytes do not show; `None`: no value of this type does."""

    exact: bool
    """Equal values always have equal bytes (not so with sets, whose order is arbitrary)."""

    def __init__(self, type: type[T] | object) -> None:  # noqa: A002 - the contract's name
        self._type = type
        try:
            described = description_of(type)
            self.raw_decode = cast("Callable[[bytes], T]", msgspec.json.Decoder(type, dec_hook=from_json).decode)
        except (TypeError, NameError, RecursionError) as error:
            raise TypeError(unsuitable(type, error)) from None
        self.raw_encode = msgspec.json.Encoder(enc_hook=to_json).encode
        self._look = look_into(described)
        inside = list(parts(described))
        for part in inside:
            if (why := unsuitable_part(part)) is not None:
                raise TypeError(f"sessions of type {type!r} cannot be stored: {why}")
        self._has_models = any(map(is_foreign, inside))
        sets = any(isinstance(part, (inspect.SetType, inspect.FrozenSetType)) for part in inside)
        self.exact = not self._has_models and not sets
        self.may_hide = hiding(described, inside)
        self.same = sameness(described)
        self.proves = proof(described)
        self._shape = shape_of(described)

    def __repr__(self) -> str:
        return f"JsonCodec({self._type!r})"

    def encode(self, value: T) -> bytes:
        """Encode a value as JSON.

        Raises:
            CodecError: a part, which is named by its path, cannot be encoded or would not come back as it is.
        """
        encoded = self.encode_plain(value)
        self.verify(value, self.decode(encoded))
        return encoded

    def encode_plain(self, data: object) -> bytes:
        """Encode plain data as JSON that is to be decoded as a value of the type.

        Raises:
            CodecError: a part, which is named by its path, cannot be encoded, or is untyped and would be altered.
        """
        try:
            encoded = self.raw_encode(cast("T", data))
        except Exception as error:
            where = unencodable(cast("Callable[[object], bytes]", self.raw_encode), data)
            raise CodecError(f"{where} cannot be stored as JSON: {reason(error)}") from None
        try:
            found = None if self._look is None else self._look(data)
        except RecursionError:  # msgspec goes deeper than Python, from 3.12 on
            raise CodecError("it is nested too deeply") from None
        if found is not None:
            raise CodecError(str(found))
        return encoded

    def decode(self, data: bytes) -> T:
        """Decode JSON. Raises `CodecError` with the path of the part that does not fit."""
        try:
            return self.raw_decode(data)
        except msgspec.ValidationError as error:
            raise CodecError(misfit(error, self.raw_decode, data)) from None
        except msgspec.DecodeError as error:
            raise CodecError(f"it is not JSON: {error}") from None
        except UnicodeDecodeError:
            raise CodecError("it is not JSON: it is not UTF-8") from None
        except RecursionError:
            raise CodecError("it is nested too deeply") from None
        except Exception as error:  # a class's own checks, such as `__post_init__`
            raise CodecError(f"the class refuses it with {type(error).__name__}") from None

    def verify(self, given: T, read_back: T) -> None:
        """Raise an error unless the value that was read back is the one that was given.

        Args:
            given: the value that was encoded.
            read_back: the value that was decoded from that.

        Raises:
            CodecError: a part, named by its path, differs or is missing.
        """
        try:
            found = difference(given, read_back)
        except RecursionError:
            raise CodecError("it is nested too deeply, or contains itself") from None
        except Exception as error:  # of a class's own `__eq__`
            raise CodecError(f"it cannot be compared with what would come back ({type(error).__name__})") from None
        if found is not None:
            raise CodecError(str(found))

    def carry_over(self, stored: bytes, encoded: bytes) -> bytes:
        """Add to encoded objects those stored fields that their classes do not know.

        Args:
            stored: what the value was decoded from, before it was changed.
            encoded: the value as it is now.

        Raises:
            CodecError: such a field cannot be kept.
        """
        shape = self._shape
        if shape is None or not stored:
            return encoded
        before = Raw(stored)
        try:
            if not shape.has_unknown(before):
                return encoded
            carrying = bytes(shape.keep(before, Raw(encoded)))
        except UnicodeDecodeError:  # the names of unknown fields were not looked at before
            raise CodecError("a stored field that its type does not know has a name that is not UTF-8") from None
        except RecursionError:
            raise CodecError("it is nested too deeply") from None
        if self._has_models and difference(self.raw_decode(encoded), self.raw_decode(carrying)) is not None:
            return encoded  # a validator that runs before the model's fields takes those to be others
        return carrying

    def carry_past(self, stored: bytes, converted: bytes) -> bytes:
        """Add to an object that was made of a value those stored fields at the top level that the type does not know.

        Raises:
            CodecError: such a field cannot be kept.
        """
        try:
            return bytes(with_unknown(self._shape, Raw(stored), Raw(converted)))
        except UnicodeDecodeError:
            raise CodecError("a stored field that its type does not know has a name that is not UTF-8") from None

    def would_lose(self, data: bytes) -> str | None:
        """Find what would be lost if stored data were decoded and encoded again.

        Returns:
            The path of the first field or item that would be lost; `None` if there is none.

        Raises:
            CodecError: it does not fit the type.
        """
        value = self.decode(data)
        again = self.carry_over(data, self.raw_encode(value))
        found = difference(value, self.raw_decode(again))
        if found is not None:
            return f"${found.path}"
        names = known_names(self._shape)
        return first_missing(plain(Raw(data)), plain(Raw(again)), names)


class ValueCopies(Generic[T]):
    """The codec of storages that store values instead of bytes: it makes copies.

    Args:
        type: the type of the values. Plain data, such as a database's JSON, is converted to it.
    """

    __slots__ = ("_type",)

    def __init__(self, type: type[T] | object) -> None:  # noqa: A002 - the contract's name
        self._type = type

    def encode(self, value: T) -> bytes:
        return cast("bytes", value)

    def decode(self, data: bytes) -> T:
        value = copy.deepcopy(cast("object", data))
        if self._type is Any or (isinstance(self._type, type) and isinstance(value, self._type)):
            return cast("T", value)
        try:
            return cast("T", msgspec.convert(value, self._type, dec_hook=from_json))
        except msgspec.ValidationError as error:
            raise CodecError(misfit(error, bytes, b"")) from None
