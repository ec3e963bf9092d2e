"""Read pickles without running anything in them.

A pickle names classes and functions that are to be called. None of them is looked up here: each is replaced by a class
that records what it was called with. After the whole pickle is read, known plain data (dicts, dates, decimals, sets, …)
is built from these records, and objects of the classes that the user allows become dicts of their attributes.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, cast
from uuid import UUID

from chatsession.importers._unpickling import DICTS, Call, PickleError, StandIn, pairs_of

_MOST_PARTS = 1_000_000
"""In one entry; a pickle of a few bytes can stand for billions, by naming one list again and again."""
_MOST_BYTES = 64 * 1024 * 1024
"""Of all texts and numbers in one entry, for the same reason."""


class Plain:
    """Makes plain data of what `load` gave.

    Args:
        allow: patterns of the classes whose objects become dicts of their attributes, such as `"myapp.models.*"`.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow = allow
        self._left = self._bytes_left = 0

    def __call__(self, value: object) -> object:
        """The data. Raises `PickleError` if there is an object in it that is neither known nor allowed."""
        self._left, self._bytes_left = _MOST_PARTS, _MOST_BYTES
        try:
            return self._plain(value)
        except RecursionError:
            raise PickleError("is nested too deeply, or contains itself") from None

    def _plain(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise PickleError(f"has more than {_MOST_PARTS:,} parts")
        kind = cast("type[object]", type(value))
        if kind in (list, tuple):
            return self._built(kind, map(self._plain, value))
        if isinstance(value, StandIn):
            return self._object(value)
        if isinstance(value, type):
            raise PickleError("has a class or a function in place of data")
        return self._counted(value)

    def _counted(self, value: Any) -> Any:
        if isinstance(value, int):
            self._bytes_left -= value.bit_length() // 8
        elif isinstance(value, (str, bytes, bytearray, memoryview)):
            self._bytes_left -= len(cast("str", value))
        if self._bytes_left < 0:
            raise PickleError(f"has texts of more than {_MOST_BYTES:,} bytes")
        return bytes(cast("bytearray", value)) if isinstance(value, (bytearray, memoryview)) else value

    def _dict(self, pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
        return self._built(dict, ((self._plain(name), self._plain(value)) for name, value in pairs))

    def _built(self, make: Callable[..., Any], *args: Any) -> Any:
        try:
            return make(*args)
        except (PickleError, RecursionError):
            raise
        except Exception as error:
            raise PickleError(f"has a broken {make.__name__} ({type(error).__name__})") from None

    def _object(self, found: StandIn) -> Any:
        named, args = _called(found)
        if named in DICTS:
            return self._dict([*(pairs_of(args[0]) or [] if args else []), *found.pairs])
        if named == "collections.deque":
            return [self._plain(each) for each in found.members]
        if named in _SETS:
            return self._built(_SETS[named], *map(self._plain, args or (found.members,)))
        if named in _KNOWN:
            return self._built(_KNOWN[named], *map(self._plain, args))
        if named == "uuid.UUID":
            return self._built(_uuid, self._plain(found.state))
        return self._allowed(named, args, found)

    def _allowed(self, named: str, args: tuple[Any, ...], found: StandIn) -> Any:
        """An object of a class of the user's: its attributes, or what it was made of."""
        if not any(fnmatchcase(named, pattern) for pattern in self._allow):
            raise PickleError(f"has an object of {named!r}, which is not in allow=…")
        if found.named == _OF_TELEGRAM:
            return self._public(pairs_of(args[0]) or [] if args else [])
        if found.state is not None:
            parts = [pairs_of(part) for part in _states(found.state)]
            dicts = [pairs for pairs in parts if pairs is not None]
            return self._public(pair for pairs in dicts for pair in pairs) if dicts else self._plain(found.state)
        if found.pairs:
            return self._dict(found.pairs)
        if found.members:
            return [self._plain(each) for each in found.members]
        # An enum's member is made of its value, a named tuple of its fields.
        return self._plain(args[0]) if len(args) == 1 else [self._plain(each) for each in args] if args else {}

    def _public(self, attributes: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
        return self._dict(pair for pair in attributes if not str(pair[0]).startswith("_"))


def _called(found: StandIn) -> tuple[str, tuple[Any, ...]]:
    """The function that a pickle asked to call, and its arguments."""
    args = found.args
    if isinstance(found, Call):
        method = args[0].args
        if args[0].named == "builtins.getattr" and len(method) == 2 and _is_class(method[0]):
            return f"{method[0].named}.{method[1]}", args[1:]
    if found.named == _OF_TELEGRAM and args and _is_class(args[0]):
        return args[0].named, args[1:]
    if found.named == "copyreg._reconstructor" and len(args) == 3 and _is_class(args[0]) and _is_class(args[1]):
        return args[0].named, () if args[1].named == "builtins.object" else (args[2],)
    return found.named, args


def _is_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, StandIn)


def _states(state: object) -> tuple[object, ...]:
    """An object's attributes: a dict, or a pair of that and what lies in slots."""
    return cast("tuple[object, ...]", state) if isinstance(state, tuple) else (state,)


def _uuid(state: dict[str, int]) -> UUID:
    return UUID(int=state["int"])


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError
    return text.encode(encoding)


def _bytes(data: bytes | str = b"", encoding: str = "latin1") -> bytes:
    """As `bytearray` is called by a pickle; never with a number, which would be a length."""
    return bytes(memoryview(data)) if not isinstance(data, str) else _encoded(data, encoding.replace("-", ""))


def _utc() -> datetime.timezone:
    return datetime.UTC


def _zone(key: str, *_: object) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(key)


_OF_TELEGRAM = "telegram.ext._picklepersistence._reconstruct_to"
"""Is called with the class and the attributes."""

_SETS: dict[str, Callable[..., Any]] = {"builtins.set": set, "builtins.frozenset": frozenset}

_KNOWN: dict[str, Callable[..., Any]] = {
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encoded,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "datetime.timezone": datetime.timezone,
    "decimal.Decimal": Decimal,
    "pytz._UTC": _utc,
    "pytz._p": _zone,
    "zoneinfo.ZoneInfo._unpickle": _zone,
}
