"""What is known of a type: from msgspec's description of it, and from its class."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from types import MemberDescriptorType
from typing import Any, TypeAlias, cast, get_origin
from uuid import UUID

from msgspec import inspect

Object: TypeAlias = inspect.StructType | inspect.DataclassType
"""A Struct, a dataclass or an attrs class."""

CLASSES: dict[type[inspect.Type], type] = {
    inspect.ListType: list,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
    inspect.VarTupleType: tuple,
    inspect.TupleType: tuple,
    inspect.DictType: dict,
    inspect.TypedDictType: dict,
    inspect.BytesType: bytes,
    inspect.DateTimeType: dt.datetime,
    inspect.DateType: dt.date,
    inspect.TimeDeltaType: dt.timedelta,
    inspect.UUIDType: UUID,
    inspect.DecimalType: Decimal,
}
"""The classes of values, by what msgspec describes them by."""


def description_of(type: object) -> inspect.Type:  # noqa: A002 - the word for it
    """How msgspec describes a type, without the titles and examples that annotations add for JSON schemas.

    Raises:
        NameError: an annotation cannot be resolved.
        RecursionError: it contains itself otherwise than in a class.
        TypeError: msgspec does not support it.
    """
    described = _bare(inspect.type_info(type))
    for part in parts(described):
        for name in part.__struct_fields__:
            setattr(part, name, _bare(getattr(part, name)))
        if isinstance(part, inspect.UnionType):
            part.types = tuple(_members(part))
    return described


def _bare(found: Any) -> Any:
    while isinstance(found, inspect.Metadata):
        found = found.type
    if isinstance(found, inspect.Field):
        found.type = _bare(found.type)
    return tuple(map(_bare, cast("tuple[object, ...]", found))) if type(found) is tuple else found


def _members(union: inspect.UnionType) -> Iterator[inspect.Type]:
    """The members of a union, and those of unions in it that had an annotation of their own."""
    for member in map(_bare, union.types):
        if isinstance(member, inspect.UnionType):
            yield from _members(member)
        else:
            yield member


def parts(described: object) -> Iterator[inspect.Type]:
    """All types inside a type, each once; types may contain themselves."""
    seen: set[int] = set()
    left: list[object] = [described]
    while left:
        part = left.pop()
        if isinstance(part, tuple):
            left.extend(cast("tuple[object, ...]", part))
        elif isinstance(part, (inspect.Type, inspect.Field)) and id(part) not in seen:
            seen.add(id(part))
            if isinstance(part, inspect.Type):
                yield part
            left.extend(getattr(part, name) for name in part.__struct_fields__)


def is_any(described: inspect.Type) -> bool:
    """Whether it is `Any` or `object`."""
    return isinstance(described, inspect.AnyType) or (
        isinstance(described, inspect.CustomType) and described.cls is object
    )


def is_foreign(described: inspect.Type) -> bool:
    """Whether it is a class that msgspec does not know, such as a pydantic model."""
    return isinstance(described, inspect.CustomType) and described.cls is not object


def class_of(described: inspect.Type) -> Any:
    """The class of the values of a type; `None` where equality alone, or nothing, is known of them."""
    cls = getattr(described, "cls", None)
    return CLASSES.get(type(described)) or get_origin(cls) or cls


def sets_all_fields(cls: type[Any]) -> bool:
    """Whether objects have all fields as their own attributes; those not set by `__init__` may be the class's."""
    return not dataclasses.is_dataclass(cls) or all(field.init for field in dataclasses.fields(cls))


def slots_of(cls: type) -> set[str]:
    """The names of all slots of a class."""
    return {
        name for base in cls.__mro__ for name, found in vars(base).items() if isinstance(found, MemberDescriptorType)
    }


def attribute_count(described: Object) -> int | None:
    """How many attributes the `__dict__` of an object has; `None`: not all of its attributes are stored."""
    cls = class_of(described)
    slots = slots_of(cls)
    if hasattr(cls, "__struct_fields__"):
        names = {*cls.__struct_fields__}
    elif hasattr(cls, "__attrs_attrs__"):  # whose other slots are those of cached properties
        names = {field.name for field in cls.__attrs_attrs__ if not field.name.startswith("_")}  # which are not stored
    else:
        names = {field.name for field in dataclasses.fields(cls)}
        if not sets_all_fields(cls) or not slots <= names:
            return None
    return len(names - slots) if names == {field.name for field in described.fields} else None


def hiding(described: inspect.Type, inside: Iterable[inspect.Type]) -> Callable[[Any], bool] | None:
    """Make a test of whether a value may hold what its JSON does not show, such as an attribute that is not a field.

    Args:
        described: the type.
        inside: all types inside it, including itself.

    Returns:
        The test; `None`: no value of this type hides anything.
    """
    hiders = [part for part in inside if _hides(part)]
    if not hiders:
        return None
    if isinstance(described, (inspect.StructType, inspect.DataclassType)) and len(hiders) == 1:
        usual = attribute_count(described)
        if hiders[0] is described and usual is not None:
            return lambda value: len(getattr(value, "__dict__", ())) != usual
    return lambda _: True


def _hides(part: inspect.Type) -> bool:
    if isinstance(part, (inspect.StructType, inspect.DataclassType)):
        return bool(class_of(part).__dictoffset__) or attribute_count(part) is None
    return is_foreign(part)
