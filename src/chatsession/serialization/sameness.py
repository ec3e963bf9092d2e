"""A quick test, made for one type, of whether a value that was encoded and decoded again is what it was.

The type says where equality hides nothing, so that most of a value is compared in one step: a text that equals what
came back is stored well, whereas a list may be a subclass of `list`, and an object may have undeclared attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter, eq
from typing import Any, TypeAlias, cast

from msgspec import inspect

from chatsession.serialization.comparison import SCALARS, difference
from chatsession.serialization.type_info import CLASSES, Object, attribute_count, class_of, is_any

Same: TypeAlias = Callable[[Any, Any], bool]
"""Takes what was given and what came back of it. `True`: nothing is lost; `False`: `difference` knows."""

_EQUAL_TYPES = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
    inspect.EnumType,
)


def sameness(described: inspect.Type, known: dict[int, Same] | None = None) -> Same:
    """Make the test for values of a type.

    Args:
        described: the type.
        known: the tests that are being made for the objects around, for types that contain themselves.
    """
    known = {} if known is None else known
    if id(described) in known:
        return known[id(described)]
    if _is_equal(described):
        return eq
    if (cls := _exact_class(described)) is not None:
        return lambda given, back: type(given) is cls and given == back
    if isinstance(described, inspect.UnionType):
        return _union(described, known)
    if isinstance(described, (inspect.StructType, inspect.DataclassType)):
        return _object(described, known)
    if isinstance(described, inspect.NamedTupleType):
        return _named_items(described, known)
    if isinstance(described, inspect.TypedDictType):
        return _fields(described, known)
    if isinstance(described, inspect.DictType):
        return _values(sameness(described.key_type, known), sameness(described.value_type, known))
    if isinstance(described, inspect.TupleType):
        return _items(tuple, [sameness(item, known) for item in described.item_types])
    if is_any(described):
        return _untyped
    if isinstance(described, (inspect.ListType, inspect.VarTupleType)):
        return _sequence(class_of(described), described.item_type, known)
    return _undescribed


def _is_equal(described: inspect.Type) -> bool:
    """Does equality tell everything about what is read as this type, whatever was given?"""
    if isinstance(described, inspect.UnionType):
        return all(map(_is_equal, described.types))
    return isinstance(described, _EQUAL_TYPES)


def _exact_class(described: inspect.Type) -> type | None:
    """The class of whose very own objects equality tells everything; `None`: there is none."""
    parts: Iterable[inspect.Type] = ()
    if isinstance(described, inspect.DictType):
        parts = described.key_type, described.value_type
    elif isinstance(described, inspect.TupleType):
        parts = described.item_types
    elif isinstance(described, (inspect.TypedDictType, inspect.NamedTupleType)):
        parts = [field.type for field in described.fields]
    elif type(described) not in CLASSES:
        return None
    elif (item := getattr(described, "item_type", None)) is not None:
        parts = (item,)
    cls = class_of(described)
    return cls if all(map(_is_equal, parts)) and not _has_own_equality(cls) else None


def _has_own_equality(cls: Any) -> bool:
    """Is this a named tuple that says itself when it is equal?"""
    return cls.__eq__ is not cast("Any", tuple).__eq__ and issubclass(cls, tuple)


def _undescribed(given: object, back: object) -> bool:
    return difference(given, back) is None


def _untyped(given: object, back: object) -> bool:
    return (type(given) in SCALARS or _is_plain(given)) and given == back


def _is_plain(value: object) -> bool:
    """Does this consist of what JSON has, so that equality with what came back tells everything?"""
    level: list[Any] = [value]
    while classes := {*map(type, level)} - SCALARS:
        if not classes <= {dict, list}:
            return False
        level = [*chain.from_iterable(_inside(each) for each in level if type(each) in classes)]
    return True


def _inside(value: Any) -> Iterable[object]:
    return cast("dict[object, object]", value).values() if type(value) is dict else value


def _sequence(cls: type, described: inspect.Type, known: dict[int, Same]) -> Same:
    """A test of all items, together where equality tells everything of them, which is several times as fast."""
    if (item_class := _exact_class(described)) is not None:
        return lambda given, back: type(given) is cls and {item_class}.issuperset(map(type, given)) and given == back
    if isinstance(described, inspect.DataclassType) and _are_their_fields(described):
        item_class, count = class_of(described), len(described.fields)

        def same(given: Any, back: Any) -> bool:
            if type(given) is not cls or not {item_class}.issuperset(map(type, given)):
                return False
            fields = [*map(_fields_of, given)]
            return {count}.issuperset(map(len, fields)) and fields == [*map(_fields_of, back)]

        return same
    item = sameness(described, known)
    return lambda given, back: type(given) is cls and len(given) == len(back) and all(map(item, given, back))


_fields_of = attrgetter("__dict__")


def _are_their_fields(described: inspect.DataclassType) -> bool:
    """Do objects of this class consist of fields, in their `__dict__`, of which equality tells everything?"""
    return attribute_count(described) == len(described.fields) and all(
        _is_equal(each.type) for each in described.fields
    )


def _named_items(described: inspect.NamedTupleType, known: dict[int, Same]) -> Same:
    if _has_own_equality(described.cls):
        return _undescribed
    items: list[Same] = []
    same = known[id(described)] = _items(described.cls, items)  # first, because its items may be of this type again
    items += [sameness(field.type, known) for field in described.fields]
    return same


def _items(cls: type, items: Sequence[Same]) -> Same:
    def same(given: Any, back: Any) -> bool:
        if type(given) is not cls or len(given) != len(back):
            return False
        return all(item(ours, theirs) for item, ours, theirs in zip(items, given, back, strict=True))

    return same


def _values(key: Same, value: Same) -> Same:
    if key is not eq:
        return _undescribed

    def same(given: Any, back: Any) -> bool:
        if type(given) is not dict or len(cast("dict[object, object]", given)) != len(back):
            return False
        return all(name in back and value(ours, back[name]) for name, ours in cast("Any", given).items())

    return same


def _fields(described: inspect.TypedDictType, known: dict[int, Same]) -> Same:
    fields: dict[str, Same] = {}

    def same(given: Any, back: Any) -> bool:
        if type(given) is not dict or len(cast("dict[object, object]", given)) != len(back):
            return False
        return all(name in back and fields[name](ours, back[name]) for name, ours in cast("Any", given).items())

    known[id(described)] = same  # first, because its fields may be of this type again
    fields.update({field.name: sameness(field.type, known) for field in described.fields})
    return same


def _union(described: inspect.UnionType, known: dict[int, Same]) -> Same:
    members = {class_of(member): sameness(member, known) for member in described.types}

    def same(given: object, back: object) -> bool:
        cls = type(given)
        if cls in SCALARS:
            return given == back
        member = members.get(cls)
        return member is not None and type(back) is cls and member(given, back)

    return same


def _object(described: Object, known: dict[int, Same]) -> Same:
    """A test of all fields, those together of which equality tells everything."""
    cls = class_of(described)
    usual = attribute_count(described)
    if usual is None:
        return _undescribed
    exact: list[tuple[str, type]] = []
    rest: list[tuple[str, Same]] = []
    has_dict = bool(cls.__dictoffset__)

    def same(given: Any, back: Any) -> bool:
        if type(given) is not cls or (has_dict and len(given.__dict__) != usual):
            return False
        try:
            if get(given) != get(back):
                return False
            for name, kind in exact:
                if type(getattr(given, name)) is not kind:
                    return False
            for name, inside in rest:
                if not inside(getattr(given, name), getattr(back, name)):
                    return False
        except AttributeError:  # a field was deleted
            return False
        return True

    known[id(described)] = same  # first, because its fields may be of this type again
    for field in described.fields:
        if (kind := _exact_class(field.type)) is not None:
            exact.append((field.name, kind))
        elif not _is_equal(field.type):
            rest.append((field.name, sameness(field.type, known)))
    compared = [field.name for field in described.fields if field.name not in dict(rest)]
    get = attrgetter(*(["__dict__"] if len(compared) == usual else compared)) if compared else _nothing
    return same


def _nothing(_: object) -> None:
    """Of an object without such fields."""
