"""Proves, for values of one type, that they come back as they are, without decoding them again.

It looks at large values column by column: at the contents of all messages together, then at all their roles. Each step
is a call into C for any number of values, so that a proof takes a fraction of the time of decoding and comparing.

It proves less than is true. What remains unproven is decoded and compared.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from itertools import chain
from math import isfinite
from operator import attrgetter
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

from msgspec import inspect

from chatsession.serialization.type_info import Object, attribute_count, class_of, is_any

Column: TypeAlias = Collection[Any]
"""The encoded values at the same place of all objects of one type."""
Proof: TypeAlias = Callable[[Column], bool]
"""`True`: each value of a column comes back equal and of the same class."""

_CERTAIN: dict[type[inspect.Type], type] = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.BoolType: bool,
    inspect.NoneType: NoneType,
    inspect.BytesType: bytes,
    inspect.DateType: dt.date,
    inspect.UUIDType: UUID,
}
"""Values of exactly these classes come back as they are if they could be encoded."""
_OTHERS: dict[type[inspect.Type], type] = {inspect.FloatType: float, inspect.DateTimeType: dt.datetime}
_ARRAYS = (inspect.ListType, inspect.VarTupleType, inspect.SetType, inspect.FrozenSetType)
_RESTRICTIONS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_ZONES = frozenset({None, dt.UTC})
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
"""An untyped whole number beyond these comes back as a float."""


class _UnprovableError(Exception):
    """The type checks or alters its values, or is not known here."""


def proof(described: inspect.Type) -> Proof | None:
    """Make the proof for values of a type; `None`: nothing can be proven for it."""
    try:
        return _proof(described, {})
    except _UnprovableError:
        return None


def _proof(described: inspect.Type, known: dict[int, Proof]) -> Proof:
    """Make the proof for a type inside another.

    Args:
        described: the type.
        known: the proofs of the enclosing objects, for types that contain themselves.
    """
    if any(getattr(described, name, None) is not None for name in _RESTRICTIONS):
        raise _UnprovableError
    if (cls := _CERTAIN.get(type(described))) is not None:
        return _of_class(cls)
    if is_any(described):
        return _untyped
    if isinstance(described, inspect.FloatType):
        return _floats
    if isinstance(described, inspect.DateTimeType):
        return _datetimes
    if isinstance(described, inspect.LiteralType):
        return _literal(described)
    if isinstance(described, _ARRAYS):
        return _arrays(class_of(described), _proof(described.item_type, known))
    if isinstance(described, inspect.DictType):
        return _dicts(_key(described.key_type), _proof(described.value_type, known))
    if isinstance(described, inspect.UnionType):
        return _union(described, known)
    if isinstance(described, (inspect.StructType, inspect.DataclassType)):
        return known.get(id(described)) or _objects(described, known)
    raise _UnprovableError


def _of_class(cls: type) -> Proof:
    classes = {cls}
    return lambda column: classes.issuperset(map(type, column))


def _floats(column: Column) -> bool:
    return {float}.issuperset(map(type, column)) and all(map(isfinite, column))


def _datetimes(column: Column) -> bool:
    return {dt.datetime}.issuperset(map(type, column)) and _ZONES.issuperset(map(attrgetter("tzinfo"), column))


def _literal(described: inspect.LiteralType) -> Proof:
    values, classes = set(described.values), {*map(type, described.values)}
    return lambda column: classes.issuperset(map(type, column)) and values.issuperset(column)


def _arrays(cls: type, item: Proof) -> Proof:
    classes = {cls}
    return lambda column: classes.issuperset(map(type, column)) and item([*chain.from_iterable(column)])


def _key(described: inspect.Type) -> Proof:
    if isinstance(described, inspect.UnionType):  # 1 and "1" are the same text as JSON
        raise _UnprovableError
    return _of_class(str) if is_any(described) else _proof(described, {})


def _dicts(key: Proof, value: Proof) -> Proof:
    def proves(column: Column) -> bool:
        return (
            {dict}.issuperset(map(type, column))
            and key([*chain.from_iterable(column)])
            and value([*chain.from_iterable(map(dict[Any, Any].values, column))])
        )

    return proves


def _union(described: inspect.UnionType, known: dict[int, Proof]) -> Proof:
    members = {
        _CERTAIN.get(type(member)) or _OTHERS.get(type(member)) or class_of(member): _proof(member, known)
        for member in described.types
    }
    if None in members or len(members) < len(described.types):
        raise _UnprovableError
    return _by_class(members)


def _by_class(members: dict[type, Proof]) -> Proof:
    def proves(column: Column) -> bool:
        classes = {*map(type, column)}
        if len(classes) == 1:
            (cls,) = classes
            return cls in members and members[cls](column)
        return classes <= members.keys() and all(
            members[cls]([value for value in column if type(value) is cls]) for cls in classes
        )

    return proves


def _objects(described: Object, known: dict[int, Proof]) -> Proof:
    cls = class_of(described)
    usual = attribute_count(described)
    if usual is None or _meddles(cls):
        raise _UnprovableError
    classes = {cls}
    sizes = {usual} if cls.__dictoffset__ else None
    fields: list[tuple[Callable[[Any], Any], Proof]] = []

    def proves(column: Column) -> bool:
        if not classes.issuperset(map(type, column)):
            return False
        if sizes is not None and not sizes.issuperset(map(len, map(_dict_of, column))):
            return False
        return all(inside([*map(get, column)]) for get, inside in fields)

    known[id(described)] = proves  # first, because its fields may be of this type again
    fields += [(attrgetter(field.name), _proof(field.type, known)) for field in described.fields]
    return proves


_dict_of = attrgetter("__dict__")


def _meddles(cls: Any) -> bool:
    """Whether a class checks or alters what is decoded, or leaves out something when it is encoded."""
    if hasattr(cls, "__attrs_attrs__") or hasattr(cls, "__post_init__"):
        return True
    config = getattr(cls, "__struct_config__", None)
    return config is not None and bool(config.omit_defaults)


def _untyped(column: Column) -> bool:
    return _UNTYPED(column)


def _numbers(column: Column) -> bool:
    return min(column) >= _LEAST and max(column) <= _MOST


def _certain(_: Column) -> bool:
    return True


_UNTYPED = _by_class(
    {
        str: _certain,
        bool: _certain,
        NoneType: _certain,
        int: _numbers,
        float: _floats,
        list: lambda column: _untyped([*chain.from_iterable(column)]),
        dict: _dicts(_of_class(str), _untyped),
    }
)
