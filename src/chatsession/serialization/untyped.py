"""Finds, in the untyped parts of a value, what would come back from JSON as something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from itertools import repeat
from typing import Any, TypeAlias, cast

from msgspec import inspect

from chatsession.serialization.comparison import Difference, step_to
from chatsession.serialization.type_info import class_of, is_any, parts

Look: TypeAlias = Callable[[Any], "Difference | None"]
"""Finds the first foreign part of a value."""

_NO_TYPE = (
    "would come back as something else, because its type is not known; pass type=…, or give initial a return "
    "annotation, that tells the type of all parts"
)
_NO_NUMBER = "would come back as something else, because JSON has only finite numbers"

_ARRAYS = (list, tuple, set, frozenset)
_SAFE = frozenset({str, int, bool, type(None)})
"""Values of these classes always come back as they are."""
_NAMES = (inspect.AnyType, inspect.StrType)
_PLAIN_TYPES = (
    *_NAMES,
    inspect.DictType,
    inspect.ListType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.NoneType,
)


def look_into(described: inspect.Type, known: dict[int, Look] | None = None) -> Look | None:
    """Make a function that finds foreign parts in values of a type; `None`: the types of all parts are known.

    Args:
        described: the type.
        known: the functions made for the enclosing objects, for types that contain themselves.
    """
    known = {} if known is None else known
    if id(described) in known:
        return known[id(described)]
    if not any(is_any(part) or _may_lack_number(part) for part in parts(described)):
        return None
    if _is_plain(described):
        return foreign
    if isinstance(described, inspect.UnionType):
        return _into_union(described, known)
    if isinstance(described, inspect.DictType):
        return _into_dict(described, known)
    if isinstance(described, inspect.TupleType):
        return _into_items([look_into(item, known) for item in described.item_types])
    if isinstance(described, inspect.TypedDictType):
        return _into_fields(described, known, lambda value, name: value.get(name))
    if isinstance(described, (inspect.StructType, inspect.DataclassType, inspect.NamedTupleType)):
        return _into_fields(described, known, lambda value, name: getattr(value, name, None))
    item = getattr(described, "item_type", None)
    return None if item is None else _into_items(repeat(look_into(item, known)))


def foreign(value: object) -> Difference | None:
    """The first part of plain data that would come back from JSON as something else."""
    kind = type(value)
    if kind is dict:
        for name, child in cast("dict[object, object]", value).items():
            if not isinstance(name, str):
                return _foreign_key(name)
            if type(child) not in _SAFE and (found := foreign(child)) is not None:
                return found.below(step_to(name))
    elif kind is list:
        items = cast("list[object]", value)
        if _SAFE.issuperset(map(type, items)):  # most lists; nothing else is as fast
            return None
        for number, child in enumerate(items):
            if type(child) not in _SAFE and (found := foreign(child)) is not None:
                return found.below(f"[{number}]")
    elif kind is float:
        return _foreign_number(cast("float", value))
    elif kind not in _SAFE and not isinstance(value, (str, IntEnum)):
        # Texts of a class of their own, as some frameworks have them, are equal to the plain text that comes back.
        return Difference(f"a {kind.__name__}", _NO_TYPE)
    return None


def _foreign_key(name: object) -> Difference:
    return Difference(f"a {type(name).__name__} as a key of the dict", _NO_TYPE)


def _foreign_number(value: float) -> Difference | None:
    return None if math.isfinite(value) else Difference("the infinite or missing number", _NO_NUMBER)


def _into_union(described: inspect.UnionType, known: dict[int, Look]) -> Look:
    if any(is_any(member) for member in described.types):
        return foreign
    members: list[tuple[tuple[type, ...], Look]] = [
        (_kinds(member), inside) for member in described.types if (inside := look_into(member, known)) is not None
    ]
    if _may_lack_number(described):
        members.append(((float,), _foreign_number))

    def look(value: object) -> Difference | None:
        for kinds, look_inside in members:
            if isinstance(value, kinds):
                return look_inside(value)
        return None

    return look


def _into_dict(described: inspect.DictType, known: dict[int, Look]) -> Look:
    look_inside = look_into(described.value_type, known)
    any_key = is_any(described.key_type)

    def look(value: object) -> Difference | None:
        if not isinstance(value, dict):
            return None
        for name, child in cast("dict[object, object]", value).items():
            if any_key and not isinstance(name, str):
                return _foreign_key(name)
            if look_inside is not None and (found := look_inside(child)) is not None:
                return found.below(step_to(name))
        return None

    return look


def _into_items(looks: list[Look | None] | repeat[Look | None]) -> Look:
    """Into arrays, with the look for each item, or one `repeat`ed for all."""

    def look(value: object) -> Difference | None:
        if not isinstance(value, _ARRAYS):
            return None
        for number, (look_inside, child) in enumerate(zip(looks, cast("list[object]", value), strict=False)):
            if look_inside is not None and (found := look_inside(child)) is not None:
                return found.below(f"[{number}]")
        return None

    return look


_Fields: TypeAlias = inspect.TypedDictType | inspect.StructType | inspect.DataclassType | inspect.NamedTupleType


def _into_fields(described: _Fields, known: dict[int, Look], get: Callable[[Any, str], object]) -> Look:
    looks: list[tuple[str, Look]] = []
    kinds = _kinds(described)

    def look(value: object) -> Difference | None:
        if not isinstance(value, kinds):
            return None
        for name, look_inside in looks:
            if (found := look_inside(get(value, name))) is not None:
                return found.below(f".{name}")
        return None

    known[id(described)] = look  # before its fields are looked at, which may be of this type again
    looks += [
        (field.name, inside) for field in described.fields if (inside := look_into(field.type, known)) is not None
    ]
    return look


def _is_plain(described: inspect.Type) -> bool:
    """Whether values of this type are what `json.loads` returns."""
    inside = list(parts(described))
    names = all(isinstance(part.key_type, _NAMES) for part in inside if isinstance(part, inspect.DictType))
    return names and all(isinstance(part, _PLAIN_TYPES) or is_any(part) for part in inside)


def _may_lack_number(described: inspect.Type) -> bool:
    """A number that is not finite is `null` as JSON, which is then taken for the `None` that may stand there too."""
    if not isinstance(described, inspect.UnionType):
        return False
    kinds = {type(member) for member in described.types}
    return inspect.FloatType in kinds and inspect.NoneType in kinds


def _kinds(described: inspect.Type) -> tuple[type, ...]:
    """The classes of the values that a member of a union stands for."""
    cls = class_of(described)
    return _ARRAYS if cls in _ARRAYS else (cls,)
