"""Pickles read without running anything that is in them.

A pickle says which classes and functions are to be looked up and called. Here none ever is: whatever a pickle asks for,
it gets a class made for the occasion that only writes down what it was called with. When the whole is read, those few
that are known to be plain data (dates, decimals, sets, …) are made of what was written down, and so are objects of
the classes that the user has allowed, as dicts of their attributes.
"""

from __future__ import annotations

import datetime
import pickle
import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, cast
from uuid import UUID

_MOST_PARTS = 1_000_000
"""In one entry; a pickle of a few bytes can stand for billions, by naming one list again and again."""

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""What Python 2 called modules, as older pickle protocols still do."""


class PickleError(ValueError):
    """Why a pickle, or a part of it, is not read; the same words for all parts with the same reason."""


class StandIn:
    """In place of an object, of whatever class: what a pickle wants to do with it."""

    __slots__ = ("args", "members", "pairs", "state")

    named: ClassVar[str]
    """The class's or function's module and name."""

    args: tuple[Any, ...]
    state: Any
    pairs: list[tuple[Any, Any]]
    members: list[Any]

    def __new__(cls, *args: Any, **named: Any) -> StandIn:
        made = object.__new__(cls)
        made.args = args
        made.state = None
        made.pairs = list(named.items())
        made.members = []
        return made

    def __call__(self, *args: Any) -> StandIn:
        return Call(self, *args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, name: Any, value: Any) -> None:
        self.pairs.append((name, value))

    def append(self, value: Any) -> None:
        self.members.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.members.extend(values)

    add = append


class Call(StandIn):
    """In place of what comes of calling an object, such as a class's method that `getattr` gave."""

    __slots__ = ()

    named = "a call"


class _Unpickler(pickle.Unpickler):
    """Looks nothing up, imports nothing, calls nothing."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._classes: dict[tuple[str, str], type[StandIn]] = {}

    def find_class(self, module_name: str, global_name: str, /) -> type[StandIn]:
        found = self._classes.get((module_name, global_name))
        if found is None:
            named = f"{_RENAMED.get(module_name, module_name)}.{global_name}"
            found = type("StandIn", (StandIn,), {"__slots__": (), "named": named})
            self._classes[module_name, global_name] = found
        return found

    def persistent_load(self, pid: Any, /) -> None:
        """The bot, which python-telegram-bot puts in again, and which is no data."""
        return


def load(path: Path) -> object:
    """Read a file; what is in it is to be looked at by `pairs_of` and `Plain`.

    Raises:
        OSError: it cannot be read.
        PickleError: it is no pickle, or not all of one.
    """
    with path.open("rb") as file:
        try:
            return _Unpickler(file).load()
        except OSError:
            raise
        except Exception as error:
            raise PickleError(f"is not a whole pickle ({type(error).__name__})") from None


def pairs_of(value: object) -> list[tuple[Any, Any]] | None:
    """What is in a dict of any kind; `None` if it is no dict."""
    if isinstance(value, dict):
        return list(cast("dict[Any, Any]", value).items())
    if isinstance(value, StandIn) and value.named in _DICTS:
        return value.pairs
    return None


class Plain:
    """Makes plain data of what `load` gave.

    Args:
        allow: patterns of the classes whose objects become dicts of their attributes, such as `"myapp.models.*"`.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow = allow
        self._left = 0

    def __call__(self, value: object) -> object:
        """The data. Raises `PickleError` if there is an object in it that is neither known nor allowed."""
        self._left = _MOST_PARTS
        try:
            return self._plain(value)
        except RecursionError:
            raise PickleError("is nested too deeply, or contains itself") from None

    def _plain(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise PickleError(f"has more than {_MOST_PARTS:,} parts")
        kind = cast("type[object]", type(value))
        if kind is dict:
            return self._dict(value.items())
        if kind in (list, tuple, set, frozenset):
            return self._built(kind, map(self._plain, value))
        if isinstance(value, StandIn):
            return self._object(value)
        if isinstance(value, type):
            raise PickleError("has a class or a function in place of data")
        return value

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
        if named in _DICTS:
            return self._dict([*(pairs_of(args[0]) or [] if args else []), *found.pairs])
        if named == "collections.deque":
            return [self._plain(each) for each in found.members]
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
    """What a pickle wanted to be called, and with what."""
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


def _utc() -> datetime.timezone:
    return datetime.UTC


def _zone(key: str, *_: object) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(key)


_OF_TELEGRAM = "telegram.ext._picklepersistence._reconstruct_to"
"""Is called with the class and the attributes."""

_DICTS = {"builtins.dict", "collections.OrderedDict", "collections.defaultdict", "collections.Counter"}

_KNOWN: dict[str, Callable[..., Any]] = {
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.bytearray": bytes,
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
