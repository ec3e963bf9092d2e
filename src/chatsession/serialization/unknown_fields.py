"""Keeps the fields of stored objects that their class does not know when a session is written again.

A newer version of the program leaves them while both versions run. They belong to the object that holds them, and
stay as long as it does. An object is the same one before and after a change if it stands

- at the same place: in the same field, or under the same key of a dictionary;
- in a list or set, if it is equal to what it was, wherever it moved; a changed one is that which shares the most equal
  fields with it, or the one at the same index if the list is as long as it was;
- and in a tagged union, if it has the same tag.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Raw, inspect

from chatsession.serialization.comparison import step_to
from chatsession.serialization.raw_json import fields_of
from chatsession.serialization.shapes import ItemsShape, ObjectShape, OneOfShape, PlacesShape, Shape, ValuesShape
from chatsession.serialization.type_info import description_of

_encode = msgspec.json.Encoder().encode


def shape_of(described: inspect.Type, made: dict[object, Shape] | None = None) -> Shape | None:
    """The shape of a type; `None` if no object with fixed fields is in it.

    Args:
        described: the type.
        made: the shapes of classes and aliases, for types that contain themselves.
    """
    made = {} if made is None else made
    if isinstance(described, inspect.CustomType):
        return _of_model(described.cls, made)
    if isinstance(described, inspect.StructType) and described.array_like:
        return _of_array(described, made)
    if isinstance(described, (inspect.DataclassType, inspect.TypedDictType, inspect.StructType)):
        return _of_object(described, made)
    if isinstance(described, inspect.UnionType):
        return _one_of(shape_of(member, made) for member in described.types)
    if isinstance(described, inspect.DictType):
        return _values(shape_of(described.value_type, made))
    if isinstance(described, inspect.TupleType):
        return _places([shape_of(item, made) for item in described.item_types])
    if isinstance(described, inspect.NamedTupleType):
        return _of_named_tuple(described, made)
    item = getattr(described, "item_type", None)
    return None if item is None else _items(shape_of(item, made))


def _of_object(
    described: inspect.DataclassType | inspect.TypedDictType | inspect.StructType, made: dict[object, Shape]
) -> Shape:
    if described.cls in made:
        return made[described.cls]
    shape = ObjectShape(field.encode_name for field in described.fields)
    made[described.cls] = shape  # first, because its fields may be of this type again
    if isinstance(described, inspect.StructType) and described.tag_field is not None:
        shape.names |= {described.tag_field}
        shape.constants[described.tag_field] = frozenset({described.tag})
    for field in described.fields:
        if (inside := shape_of(field.type, made)) is not None:
            shape.inside.append((frozenset({field.encode_name}), inside))
    return shape


def _of_array(described: inspect.StructType, made: dict[object, Shape]) -> Shape:
    if described.cls in made:
        return made[described.cls]
    items: list[Shape | None] = [] if described.tag_field is None else [None]
    shape = made[described.cls] = PlacesShape(items, may_grow=not described.forbid_unknown_fields)
    items += [shape_of(field.type, made) for field in described.fields]
    return shape


def _of_named_tuple(described: inspect.NamedTupleType, made: dict[object, Shape]) -> Shape | None:
    if described.cls in made:
        return made[described.cls]
    items: list[Shape | None] = []
    shape = made[described.cls] = PlacesShape(items)
    items += [shape_of(field.type, made) for field in described.fields]
    return shape if any(item is not None for item in items) else None


def _of_model(model: Any, made: dict[object, Shape]) -> Shape | None:
    """The shape of a pydantic model."""
    fields: Mapping[str, Any] | None = getattr(model, "model_fields", None)
    if fields is None:
        return None
    if model in made:
        return made[model]
    if getattr(model, "__pydantic_root_model__", False):
        return _of_annotation(fields["root"].annotation, made)
    shape = ObjectShape(takes_all=model.model_config.get("extra") == "allow")
    made[model] = shape
    for name, field in fields.items():
        names = frozenset({name, *_aliases(field)})
        shape.names |= names
        if (inside := _of_annotation(field.annotation, made)) is not None:
            shape.inside.append((names, inside))
        if typing.get_origin(field.annotation) is Literal:
            shape.constants[name] = frozenset(typing.get_args(field.annotation))
    return shape


def _aliases(field: Any) -> Iterator[str]:
    for alias in (field.alias, field.validation_alias, field.serialization_alias):
        for choice in getattr(alias, "choices", (alias,)):  # AliasChoices
            first = getattr(choice, "path", (choice,))[0]  # AliasPath
            if isinstance(first, str):
                yield first


def _of_annotation(annotation: Any, made: dict[object, Shape]) -> Shape | None:
    """The shape of a model's field, whose type may be one that only pydantic knows."""
    if (value := _aliased(annotation)) is not None:
        return _of_alias(annotation, value, made)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _of_annotation(args[0], made)
    if origin in (typing.Union, types.UnionType):
        return _one_of(_of_annotation(arg, made) for arg in args)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return _places([_of_annotation(arg, made) for arg in args])
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
        return _values(_of_annotation(args[1], made))
    if isinstance(origin, type) and issubclass(origin, (Sequence, Set)) and args:
        return _items(_of_annotation(args[0], made))
    if hasattr(annotation, "model_fields"):
        return _of_model(annotation, made)
    with suppress(TypeError, NameError):
        return shape_of(description_of(annotation), made)
    return None


def _aliased(annotation: Any) -> Any:
    """What a `type` statement names; `None`: it is no such name."""
    origin = typing.get_origin(annotation)
    if hasattr(origin, "__value__"):
        return origin.__value__[typing.get_args(annotation)]
    return getattr(annotation, "__value__", None)


def _of_alias(alias: Any, value: Any, made: dict[object, Shape]) -> Shape | None:
    if alias in made:
        return made[alias]
    members: list[Shape] = []
    made[alias] = itself = OneOfShape(members)  # first, because it may contain itself
    shape = _of_annotation(value, made)
    if shape is None or not known_names(shape):
        return None
    members += shape.inner() if isinstance(shape, OneOfShape) else [shape]
    return itself


def _one_of(members: Iterable[Shape | None]) -> Shape | None:
    shapes = [member for member in members if member is not None]
    return OneOfShape(shapes) if len(shapes) > 1 else shapes[0] if shapes else None


def _values(value: Shape | None) -> Shape | None:
    return None if value is None else ValuesShape(value)


def _items(item: Shape | None) -> Shape | None:
    return None if item is None else ItemsShape(item)


def _places(items: Sequence[Shape | None]) -> Shape | None:
    return PlacesShape(items) if any(item is not None for item in items) else None


def with_unknown(shape: Shape | None, stored: Raw, converted: Raw) -> Raw:
    """Add the unknown fields of an object to what it was converted to, unless that has such fields itself."""
    if not isinstance(shape, ObjectShape) or shape.takes_all or not shape.has_unknown(stored):
        return converted
    old, new = fields_of(stored), fields_of(converted)
    if old is None or new is None:
        return converted
    return Raw(_encode({name: raw for name, raw in old.items() if name not in shape.names} | new))


def known_names(shape: Shape | None) -> frozenset[str]:
    """The names of all fields in a shape, at any depth."""
    names: set[str] = set()
    seen: set[int] = set()
    left = [] if shape is None else [shape]
    while left:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            names |= each.names if isinstance(each, ObjectShape) else frozenset()
            left += each.inner()
    return frozenset(names)


def first_missing(before: object, after: object, ignored: frozenset[str], path: str = "$") -> str | None:
    """The path of the first field or item that is only in the first of two trees of JSON.

    Args:
        before: from `plain`.
        after: from `plain`.
        ignored: names of fields that may be missing, because they have a default or an alias.
        path: the path of the trees.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        fields = cast("dict[str, object]", after)
        for name, child in cast("dict[str, object]", before).items():
            if name not in fields:
                if name not in ignored:
                    return path + step_to(name)
            elif (found := first_missing(child, fields[name], ignored, path + step_to(name))) is not None:
                return found
    if isinstance(before, list) and isinstance(after, list):
        ours, theirs = cast("list[object]", before), cast("list[object]", after)
        for number, (child, other) in enumerate(zip(ours, theirs, strict=False)):
            if (found := first_missing(child, other, ignored, f"{path}[{number}]")) is not None:
                return found
        if len(theirs) < len(ours):
            return f"{path}[{len(theirs)}]"
    return None
