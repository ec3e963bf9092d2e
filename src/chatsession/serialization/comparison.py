"""Compares a value with its copy that was encoded and decoded: is it equal, of the same classes, and complete?"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache
from operator import attrgetter
from types import FunctionType, NoneType
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

import msgspec

from chatsession.serialization.type_info import sets_all_fields, slots_of


class Difference(NamedTuple):
    """The first part of a value that would not come back as it is, and why."""

    what: str
    why: str
    path: str = ""

    def below(self, step: str) -> Difference:
        """The same difference, described from the enclosing part."""
        return self._replace(path=step + self.path)

    def __str__(self) -> str:
        return f"{self.what} at `${self.path}` {self.why}"


Compare: TypeAlias = Callable[[Any, Any], "Difference | None"]
"""Takes what was given and what came back of it."""

SCALARS = frozenset({str, int, bool, NoneType, float, bytes, dt.datetime, dt.date, dt.timedelta, UUID, Decimal})
"""Values of exactly these classes are the same when they are equal."""

_MISSING = object()
_LONGEST_NAME = 40
_LARGEST_NUMBER = 10**18
_LOST = "is not stored (it is private, excluded or undeclared) and would be lost"


def difference(given: object, back: object) -> Difference | None:
    """The first difference between `given` and `back`, its encoded and decoded copy; `None`: there is none.

    Texts, numbers and members of enums may come back as others that they equal: an `int` as a `float`, a member of a
    `StrEnum` as its text. All else has the very class that it had.
    """
    return _compare_of(type(given))(given, back)


def step_to(key: object) -> str:
    """A dictionary's key as a step of a path: by name if it looks like a name, because other texts may be data."""
    if isinstance(key, Enum):
        return step_to(cast("object", key.value))
    if isinstance(key, str):
        named = key.isidentifier() and not key[0].isupper() and len(key) <= _LONGEST_NAME
        return f'["{key}"]' if named else "[...]"
    return f"[{key}]" if isinstance(key, int) and abs(key) < _LARGEST_NUMBER else "[...]"


@cache
def _compare_of(cls: Any) -> Compare:
    if issubclass(cls, Enum):
        return _members
    for base, compare in _BY_CLASS.items():
        if cls is base:
            return compare
    if issubclass(cls, str):
        return _scalars
    if issubclass(cls, tuple):
        return _arrays
    if hasattr(cls, "__struct_fields__"):
        return _structs(cls)
    if hasattr(cls, "__pydantic_private__"):
        return _models
    if hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__attrs_attrs__"):
        return _objects(cls)
    return _others


def _scalars(given: Any, back: Any) -> Difference | None:
    if given == back:
        return None
    if isinstance(given, float) and not math.isfinite(given):
        return Difference("the infinite or missing number", f"would come back as {_kind(back)}: JSON has none")
    return _other_value(given, back)


def _dates(given: dt.datetime, back: Any) -> Difference | None:
    if given == back:
        return None
    # Times of the hour that a change of clocks repeats equal no time of another zone, not even the same moment.
    aware = isinstance(back, dt.datetime) and given.tzinfo is not None and back.tzinfo is not None
    if aware and given.astimezone(dt.UTC) == back.astimezone(dt.UTC):
        return None
    return _other_value(given, back)


def _times(given: dt.time, back: Any) -> Difference | None:
    # A zone whose offset depends on the date is not stored, and such a time equals one without a zone.
    same = given == back and (given.tzinfo is None) == (back.tzinfo is None)
    return None if same else _other_value(given, back)


def _decimals(given: Decimal, back: Any) -> Difference | None:
    same = isinstance(back, Decimal) and given.as_tuple() == back.as_tuple()  # which compares even what is no number
    return None if same or (given.is_finite() and given == back) else _other_value(given, back)


def _members(given: Enum, back: object) -> Difference | None:
    return None if given == back else _other_value(given, back)


def _arrays(given: list[Any] | tuple[Any, ...], back: Any) -> Difference | None:
    if type(back) is not type(given):
        return _other_value(given, back)
    if SCALARS.issuperset({*map(type, given)}) and given == back:
        return None
    if len(given) != len(back):
        return Difference(f"the {_kind(given)}", "would come back with another length")
    for number, (ours, theirs) in enumerate(zip(given, back, strict=True)):
        if (found := difference(ours, theirs)) is not None:
            names = getattr(given, "_fields", None)  # of a named tuple
            return found.below(f"[{number}]" if names is None else f".{names[number]}")
    return None


def _dicts(given: dict[Any, Any], back: Any) -> Difference | None:
    if type(back) is not type(given):
        return _other_value(given, back)
    if SCALARS.issuperset({*map(type, given), *map(type, given.values())}) and given == back:
        return None
    if len(given) != len(back):
        return Difference("the dict", _lost_key(given))
    keys = {key: key for key in back}
    for key, ours in given.items():
        found_key = keys.get(key, _MISSING)
        if found_key is _MISSING:
            return Difference(f"the {_kind(key)} that is a key", "would come back as another key", step_to(key))
        if (found := difference(key, found_key)) is not None:
            return Difference(f"{found.what} that is a key", found.why, step_to(key))
        if (found := difference(ours, back[key])) is not None:
            return found.below(step_to(key))
    return None


def _lost_key(given: dict[Any, Any]) -> str:
    if all(isinstance(key, str) for key in given):
        return "has a key that its TypedDict does not have, and that would be lost"
    return "has keys that are the same text as JSON (1 and '1'), of which one would be lost"


def _sets(given: set[Any], back: Any) -> Difference | None:
    if type(back) is not type(given):
        return _other_value(given, back)
    if SCALARS.issuperset({*map(type, given)}) and given == back:
        return None
    if len(given) != len(back):
        return Difference(f"the {_kind(given)}", "would come back with another length")
    left = list(back)
    for member in given:
        at = next((at for at, other in enumerate(left) if difference(member, other) is None), None)
        if at is None:
            return Difference(f"the {_kind(member)}", "in a set would not come back as it is", "[...]")
        del left[at]
    return None


def _deques(given: deque[Any], back: Any) -> Difference | None:
    if not isinstance(back, deque) or cast("deque[Any]", back).maxlen != given.maxlen:
        return _other_value(given, cast("object", back))
    return _arrays(list(given), list(cast("deque[Any]", back)))


def _structs(cls: type) -> Compare:
    return _by_fields(cls, cast("type[msgspec.Struct]", cls).__struct_fields__, ())


def _objects(cls: type) -> Compare:
    """Compares dataclasses and attrs classes."""
    if hasattr(cls, "__attrs_attrs__"):  # whose other slots are those of cached properties
        return _by_fields(cls, tuple(field.name for field in cast("Any", cls).__attrs_attrs__), ())
    names = tuple(field.name for field in dataclasses.fields(cls))
    return _by_fields(cls, names, [name for name in slots_of(cls) if name not in names])


def _by_fields(cls: type, names: tuple[str, ...], other_slots: Sequence[str]) -> Compare:
    get = _getter(names)
    has_dict = bool(cls.__dictoffset__)
    usual = len(set(names) - slots_of(cls)) if sets_all_fields(cls) else -1
    declared = frozenset(names)

    def compare(given: Any, back: Any) -> Difference | None:
        if type(back) is not cls:
            return _other_value(given, back)
        if has_dict and len(given.__dict__) != usual and (found := _undeclared(given, back, declared)) is not None:
            return found
        if other_slots and (found := _by_name(given, back, other_slots)) is not None:
            return found
        try:
            ours = get(given)
            if ours == get(back) and _are_plain(ours):
                return None
        except (AttributeError, ArithmeticError):  # a field was deleted; a Decimal is a signalling NaN
            pass
        return _by_name(given, back, names)

    return compare


def _are_plain(parts: tuple[Any, ...]) -> bool:
    """Whether equality is enough to compare these: scalars, and lists and dictionaries of them."""
    for part in parts:
        kind = part.__class__
        if kind in SCALARS:
            continue
        if kind is dict:
            if not SCALARS.issuperset(map(type, part.values())):
                return False
        elif kind is not list:
            return False
        if not SCALARS.issuperset(map(type, part)):
            return False
    return True


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _by_name(given: object, back: object, names: Iterable[str]) -> Difference | None:
    """Compare field by field; some may be unset."""
    for name in names:
        ours, theirs = getattr(given, name, _MISSING), getattr(back, name, _MISSING)
        if ours is theirs:
            continue
        if ours is _MISSING or theirs is _MISSING:
            return Difference("the attribute", _LOST if theirs is _MISSING else "would come back set", f".{name}")
        if (found := difference(ours, theirs)) is not None:
            return found.below(f".{name}")
    return None


def _undeclared(given: object, back: object, declared: frozenset[str]) -> Difference | None:
    """Compares attributes that were set on objects and are not their fields."""
    ours, theirs = _attributes(given, declared), _attributes(back, declared)
    if ours.keys() != theirs.keys():
        return Difference("the attribute", _LOST, f".{next(iter(ours.keys() ^ theirs.keys()))}")
    return _by_key(ours, theirs)


def _attributes(value: object, declared: frozenset[str]) -> dict[str, Any]:
    """The attributes set on an object that are neither fields nor cached properties."""
    cls = type(value)
    attributes = cast("dict[str, Any]", getattr(value, "__dict__", {}))
    return {name: each for name, each in attributes.items() if name not in declared and not _is_cache(cls, name)}


def _is_cache(cls: type, name: str) -> bool:
    found: object = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return hasattr(cast("type[object]", type(found)), "__get__") and not isinstance(found, FunctionType)


def _is_opaque(ours: object, theirs: object) -> bool:
    """Whether these differ only in identity, such as locks that `__post_init__` makes for each object."""
    cls: Any = type(ours)
    return cls is type(theirs) and cls.__eq__ is object.__eq__


def _models(given: Any, back: Any) -> Difference | None:
    """Pydantic models: fields, undeclared fields (`extra="allow"`), and private attributes."""
    if type(back) is not type(given):
        return _other_value(given, back)
    fields = cast("dict[str, Any]", cast("Any", type(given)).model_fields)
    found = _by_key({name: given.__dict__.get(name, _MISSING) for name in fields}, back.__dict__)
    found = found or _undeclared(given, back, frozenset(fields))
    found = found or _by_key(given.__pydantic_extra__ or {}, back.__pydantic_extra__ or {})
    return found or _by_key(given.__pydantic_private__ or {}, back.__pydantic_private__ or {})


def _by_key(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Difference | None:
    for name, value in ours.items():
        other = theirs.get(name, _MISSING)
        if value is other or _is_opaque(value, other):
            continue
        if other is _MISSING:
            return Difference("the attribute", _LOST, f".{name}")
        if (found := difference(value, other)) is not None:
            return found.below(f".{name}")
    return None


def _others(given: Any, back: Any) -> Difference | None:
    """Values of other classes, such as pydantic's own types."""
    return None if type(back) is type(given) and given == back else _other_value(given, back)


def _other_value(given: object, back: object) -> Difference:
    ours, theirs = type(given), type(back)
    if ours is theirs:
        return Difference(f"the {_kind(given)}", "would come back as another value, because not all of it is stored")
    if issubclass(ours, theirs) and theirs is not object and not issubclass(ours, Enum):
        return Difference(
            f"the {_kind(given)}",
            f"would come back as a {_kind(back)}, of which it is a subclass; annotate that part as {_kind(given)}",
        )
    return Difference(
        f"a {_kind(given)}",
        f"would come back as a {_kind(back)}; pass type=…, or give initial a return annotation, that says what it is",
    )


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


_BY_CLASS: dict[type, Compare] = dict.fromkeys((str, int, bool, NoneType, float, bytes, dt.date), _scalars) | {
    dt.timedelta: _scalars,
    UUID: _scalars,
    dt.datetime: _dates,
    dt.time: _times,
    Decimal: _decimals,
    list: _arrays,
    tuple: _arrays,
    dict: _dicts,
    set: _sets,
    frozenset: _sets,
    deque: _deques,
}
