"""From a value to bytes and back: typed JSON, and what it means that a value did not change."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
from msgspec import inspect

from chatsession.serialization.untyped import Look, look_into, parts

T = TypeVar("T")


class Codec(Protocol[T]):
    """Turns values into bytes and back; given to a manager as `codec=`, it replaces `JsonCodec`.

    `decode` must build a new value each time. Both may raise anything, which the session turns into a
    `SessionEncodeError` or a `SessionDecodeError`; nothing is written then.
    """

    def encode(self, value: T) -> bytes:
        """Give the bytes to store."""
        ...

    def decode(self, data: bytes) -> T:
        """Give the value that `data` was made of."""
        ...


class CodecError(ValueError):
    """Why a value or a piece of stored data does not fit; the message holds paths and types, never data."""


class JsonCodec(Generic[T]):
    """JSON by msgspec, checked against a type in both directions.

    Knows dataclasses, msgspec Structs, TypedDicts, attrs classes, named tuples, enums, dates, UUIDs, decimals and
    containers of them; pydantic models by their own methods. Nothing in the data is ever executed or imported.

    What is encoded is decoded once before it counts, so that a value which could not be read back (a string where
    the class says `int`) is refused when it is written and not found out weeks later. Where the type is not known
    (`dict[str, Any]`, `object`), what would come back as something else is refused too: a tuple, a date.

    Fields of a stored object that the class does not know, left by a newer or older version of the program, are kept
    (at the top level).

    Args:
        type: what stored data must fit; `typing.Any`: any JSON.

    Raises:
        TypeError: values of this type cannot be stored as JSON.

    Examples:
        >>> from chatsession import JsonCodec
        >>> JsonCodec(dict[str, int]).decode(b'{"count": 1}')
        {'count': 1}
    """

    __slots__ = ("_known", "_probe", "_type", "check", "exact", "raw_decode", "raw_encode")

    raw_decode: Callable[[bytes], T]
    """`decode` less its words on what is wrong: for the many times that nothing is."""
    raw_encode: Callable[[T], bytes]
    """`encode` less its words on what is wrong, and less `check`."""

    check: Callable[[T], None] | None
    """Raises `CodecError` for a part that would come back as something else; `None`: there can be none."""

    exact: bool
    """Equal values always give equal bytes (not so with sets, whose order is arbitrary)."""

    def __init__(self, type: type[T] | object) -> None:  # noqa: A002 - the contract's name
        self._type = type
        try:
            described = inspect.type_info(type)
            self.raw_decode = cast("Callable[[bytes], T]", msgspec.json.Decoder(type, dec_hook=_from_json).decode)
        except TypeError as error:
            raise TypeError(f"sessions of type {type!r} cannot be stored: {error}") from None
        self.raw_encode = msgspec.json.Encoder(enc_hook=to_json).encode
        look = look_into(described)
        self.check = functools.partial(_refuse_foreign, look) if look is not None else None
        self.exact = True
        for part in parts(described):
            if isinstance(part, inspect.CustomType) and part.cls is not object:
                _check_custom(part.cls)
                self.exact = False
            if isinstance(part, (inspect.SetType, inspect.FrozenSetType)):
                self.exact = False
        self._known = _field_names(described)
        self._probe = _probe(self._known) if self._known is not None else None

    def __repr__(self) -> str:
        return f"JsonCodec({self._type!r})"

    def encode(self, value: T) -> bytes:
        """Give the JSON of a value. Raises `CodecError` with the path of the part that has none."""
        try:
            encoded = self.raw_encode(value)
        except Exception as error:
            where = _unencodable(cast("Callable[[object], bytes]", self.raw_encode), value)
            raise CodecError(f"{where} cannot be stored as JSON: {_reason(error)}") from None
        if self.check is not None:
            self.check(value)
        return encoded

    def decode(self, data: bytes) -> T:
        """Give the value of some JSON. Raises `CodecError` with the path of the part that does not fit."""
        try:
            return self.raw_decode(data)
        except msgspec.ValidationError as error:
            raise CodecError(_misfit(error)) from None
        except msgspec.DecodeError as error:
            raise CodecError(f"it is not JSON: {error}") from None
        except UnicodeDecodeError:
            raise CodecError("it is not JSON: it is no UTF-8") from None
        except RecursionError:
            raise CodecError("it is nested too deeply") from None
        except Exception as error:  # a class's own checks, such as `__post_init__`
            raise CodecError(f"the class refuses it with {type(error).__name__}") from None

    def carry_over(self, stored: bytes, encoded: bytes) -> bytes:
        """Add to an encoded object those stored fields that the type does not know.

        Raises:
            CodecError: such a field cannot be kept.
        """
        if self._probe is None or self._known is None or not stored:
            return encoded
        try:
            self._probe(stored)
        except msgspec.ValidationError:
            unknown = {name: raw for name, raw in _named(stored).items() if name not in self._known}
            return msgspec.json.encode(_fields(encoded) | unknown)
        except UnicodeDecodeError:
            _named(stored)
        return encoded


class ValueCopies(Generic[T]):
    """The codec of storages that take values as they are: copies instead of bytes.

    Args:
        type: what values must be; plain data, as a database's JSON gives it, is converted.
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
            return cast("T", msgspec.convert(value, self._type, dec_hook=_from_json))
        except msgspec.ValidationError as error:
            raise CodecError(_misfit(error)) from None


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _named(stored: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _fields(stored)
    except UnicodeDecodeError:  # those that a type knows are found without a look at the names of others
        raise CodecError("a stored field that its type does not know has a name that is no UTF-8") from None


class _ModelError(ValueError):
    """What is wrong with a pydantic model, told without its data."""


def to_json(value: object) -> object:
    if isinstance(value, str):  # of a class of its own, as the texts of some frameworks are
        return str(value)
    if not hasattr(value, "model_dump_json"):
        raise NotImplementedError(f"objects of type {type(value).__name__} are not supported")
    model = cast("Any", value)
    try:
        # As JSON, because a model may have other rules for it; without what is computed and could not be read back.
        return msgspec.Raw(model.model_dump_json(round_trip=True, by_alias=not _takes_names(model.__class__)).encode())
    except Exception as error:
        raise _ModelError(f"its model_dump_json() raised {type(error).__name__}") from None


def _from_json(wanted: type, data: object) -> object:
    if wanted is object:
        return data
    naming = {"by_name": True, "by_alias": True} if _takes_names(wanted) else {}
    errors = None
    try:
        return cast("Any", wanted).model_validate_json(msgspec.json.encode(data), **naming)
    except ValueError as error:
        errors = getattr(error, "errors", None)
        if errors is None:
            raise
    first = errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    raise _ModelError(f"{first['type']} in {wanted.__name__}.{path}")


@functools.cache
def _takes_names(model: type) -> bool:
    """Can fields be read back under their own names, whatever their aliases are? (pydantic 2.11)"""
    return "by_name" in signature(cast("Any", model).model_validate_json).parameters


def _check_custom(cls: type) -> None:
    if not hasattr(cls, "model_validate"):
        raise TypeError(
            f"sessions with a {cls.__qualname__} cannot be stored as JSON: make it a dataclass, a msgspec.Struct, a "
            "TypedDict, an attrs class or a pydantic model, or give the manager a codec of your own"
        )


def _field_names(described: inspect.Type) -> frozenset[str] | None:
    """The names under which an object's fields are stored, or `None` for what is no object with fixed fields."""
    if not isinstance(described, (inspect.DataclassType, inspect.TypedDictType, inspect.StructType)) or getattr(
        described, "array_like", False
    ):
        return None
    names = {field.encode_name for field in described.fields}
    if isinstance(described, inspect.StructType) and described.tag_field is not None:
        names.add(described.tag_field)
    return frozenset(names)


def _probe(names: frozenset[str]) -> Callable[[bytes], object]:
    """A decoder that only looks whether an object has fields of other names."""
    attributes = {f"f{number}": name for number, name in enumerate(sorted(names))}
    fields = [(attribute, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for attribute in attributes]
    known = msgspec.defstruct("Known", fields, rename=attributes, forbid_unknown_fields=True)
    return msgspec.json.Decoder(known).decode


def _refuse_foreign(look: Look, value: object) -> None:
    try:
        found = look(value)
    except RecursionError:  # msgspec goes deeper than Python, from 3.12 on
        raise CodecError("it is nested too deeply") from None
    if found is not None:
        raise CodecError(str(found))


def _unencodable(encode: Callable[[object], bytes], value: object, path: str = "$", depth: int = 50) -> str:
    """The path of the innermost part that does not encode, and its type."""
    for name, child in _children(value):
        try:
            encode(child)
        except Exception:
            return _unencodable(encode, child, path + name, depth - 1) if depth else f"{path}{name} (a cycle?)"
    return f"{type(value).__name__} at `{path}`"


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in cast("dict[object, object]", value).items():
            yield "[...]", key if isinstance(key, str) else 0
            yield "[...]", child
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, child in enumerate(cast("list[object]", value)):
            yield f"[{number}]", child
    else:
        fields = getattr(value, "__struct_fields__", None) or getattr(value, "__dict__", {})
        for name in fields:
            yield f".{name}", getattr(value, name)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):  # its own message quotes the text
        return "the text is not valid Unicode (a lone surrogate)"
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    return str(error)


def _misfit(error: msgspec.ValidationError) -> str:
    """What msgspec says of a misfit, less the values that it, or a class of the user's, quotes."""
    message, cause = str(error), error.__cause__
    if cause is not None and not isinstance(cause, _ModelError):  # such as from `__post_init__`
        where = re.search(r" - at `[^`]*`$", message)
        return f"the class refuses it with {type(cause).__name__}{where.group() if where else ''}"
    return re.sub(r"^(Invalid (?:enum )?value) .*?( - at `[^`]*`)?$", r"\1\2", message, flags=re.DOTALL)
