"""Fields of stored objects that their class does not know, kept when the session is written again.

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
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol, TypeAlias, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType, inspect

from chatsession.serialization.comparison import step_to

_MOST_COMPARED = 10_000
"""Pairs of changed items of one list that are compared; those of longer lists are matched by their index."""

Items: TypeAlias = list[Raw]
Fields: TypeAlias = dict[str, Raw]
Probe: TypeAlias = Callable[[Raw], object]

_OTHERS = str | int | float | bool | None
"""What may stand in place of an object, a list or a dictionary that is a member of a union."""

_decode_fields = msgspec.json.Decoder(Fields).decode
_decode_items = msgspec.json.Decoder(Items).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


class Shape(Protocol):
    """Where, in the JSON of a type, objects with fixed fields are."""

    def has_unknown(self, stored: Raw) -> bool:
        """Quick, and wrong only by saying yes."""
        ...

    def probe_type(self) -> object:
        """Give a type that decodes only what has no unknown fields; `None`: no type tells that."""
        ...

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        """Give `encoded` with the unknown fields of `stored`."""
        ...

    def known(self, stored: Raw) -> object:
        """Give the data without unknown fields, to be compared."""
        ...

    def inner(self) -> Sequence[Shape]:
        """Give the shapes in this one."""
        ...


class _Object:
    """An object with fixed fields."""

    def __init__(self, source: object, names: Iterable[str] = (), *, takes_all: bool = False) -> None:
        self.source = source
        """What it was made of, kept because shapes are found by its `id`."""
        self.names = frozenset(names)
        self.takes_all = takes_all
        self.inside: list[tuple[frozenset[str], Shape]] = []
        """The names of a field (more than one if it has aliases), and the shape of what is in it."""
        self.constants: dict[str, frozenset[object]] = {}
        """The values that tell this class from others."""
        self._is_being_probed = False

    def has_unknown(self, stored: Raw) -> bool:
        probe, left = self._probe
        try:
            found = probe(stored)
        except msgspec.DecodeError:
            return True
        return any(
            shape.has_unknown(getattr(found, attribute))
            for attribute, shape in left
            if getattr(found, attribute) is not UNSET
        )

    def probe_type(self) -> object:
        if self._is_being_probed:  # it contains itself
            return None
        known, left = self._known
        return None if left else known | _OTHERS

    @cached_property
    def _probe(self) -> tuple[Callable[[Raw], object], list[tuple[str, Shape]]]:
        """A decoder that only looks whether objects have fields of other names, and the fields that it leaves out."""
        known, left = self._known
        return msgspec.json.Decoder(known).decode, left

    @cached_property
    def _known(self) -> tuple[Any, list[tuple[str, Shape]]]:
        shapes = {name: shape for names, shape in self.inside for name in names}
        names = {f"f{number}": name for number, name in enumerate(sorted(self.names))}
        self._is_being_probed = True
        types = {attribute: shapes[name].probe_type() for attribute, name in names.items() if name in shapes}
        self._is_being_probed = False
        fields = [(attribute, (types.get(attribute) or Raw) | UnsetType, UNSET) for attribute in names]
        known = msgspec.defstruct("Known", fields, rename=names, forbid_unknown_fields=not self.takes_all, gc=False)
        return known, [(attribute, shapes[names[attribute]]) for attribute, found in types.items() if found is None]

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        old, new = fields_of(stored), fields_of(encoded)
        if old is None or new is None or not self.fits(old) or not self.fits(new):
            return encoded
        if not self.takes_all and not self.names.issuperset(new):  # written by rules of the class's own
            return encoded
        for names, shape in self.inside:
            name, old_name = _first(names, new), _first(names, old)
            if name is not None and old_name is not None:
                new[name] = shape.keep(old[old_name], new[name])
        if not self.takes_all:
            new |= {name: raw for name, raw in old.items() if name not in self.names}
        return Raw(_encode(new))

    def known(self, stored: Raw) -> object:
        fields = fields_of(stored)
        if fields is None:
            return plain(stored)
        inside = {name: shape for names, shape in self.inside for name in names}
        return {
            name: inside[name].known(raw) if name in inside else plain(raw)
            for name, raw in fields.items()
            if self.takes_all or name in self.names
        }

    def inner(self) -> Sequence[Shape]:
        return [shape for _, shape in self.inside]

    def fits(self, fields: Fields) -> bool:
        """Has it the tag of this class, or none?"""
        return all(
            name not in fields or _is_in(plain(fields[name]), constants) for name, constants in self.constants.items()
        )


class _Values:
    """A dictionary with values of one type."""

    def __init__(self, value: Shape) -> None:
        self._value = value

    def has_unknown(self, stored: Raw) -> bool:
        if self._probe is not None:
            return not _fits(self._probe, stored)
        return any(map(self._value.has_unknown, (fields_of(stored) or {}).values()))

    def probe_type(self) -> Any:
        inner: Any = self._value.probe_type()
        return None if inner is None else dict[str, inner] | _OTHERS

    @cached_property
    def _probe(self) -> Probe | None:
        return _decoder_of(self.probe_type())

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        old, new = fields_of(stored), fields_of(encoded)
        if old is None or new is None:
            return encoded
        for name in new.keys() & old.keys():
            new[name] = self._value.keep(old[name], new[name])
        return Raw(_encode(new))

    def known(self, stored: Raw) -> object:
        fields = fields_of(stored)
        return plain(stored) if fields is None else {name: self._value.known(raw) for name, raw in fields.items()}

    def inner(self) -> Sequence[Shape]:
        return (self._value,)


class _Items:
    """A list or set with items of one type."""

    def __init__(self, item: Shape) -> None:
        self._item = item

    def has_unknown(self, stored: Raw) -> bool:
        if self._probe is not None:
            return not _fits(self._probe, stored)
        return any(map(self._item.has_unknown, items_of(stored) or []))

    def probe_type(self) -> Any:
        inner: Any = self._item.probe_type()
        return None if inner is None else list[inner] | _OTHERS

    @cached_property
    def _probe(self) -> Probe | None:
        return _decoder_of(self.probe_type())

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        old, new = items_of(stored), items_of(encoded)
        if old is None or new is None:
            return encoded
        for before, after in _matches(list(map(self._item.known, old)), list(map(self._item.known, new))):
            new[after] = self._item.keep(old[before], new[after])
        return Raw(_encode(new))

    def known(self, stored: Raw) -> object:
        items = items_of(stored)
        return plain(stored) if items is None else list(map(self._item.known, items))

    def inner(self) -> Sequence[Shape]:
        return (self._item,)


class _Places:
    """A tuple with a type for each place, or an object stored as an array, which may have grown at its end."""

    def __init__(self, items: Sequence[Shape | None], *, may_grow: bool = False, source: object = None) -> None:
        self.source = source
        self.items = items
        self._may_grow = may_grow

    def has_unknown(self, stored: Raw) -> bool:
        items = items_of(stored) or []
        if self._may_grow and len(items) > len(self.items):
            return True
        pairs = zip(self.items, items, strict=False)
        return any(shape is not None and shape.has_unknown(raw) for shape, raw in pairs)

    def probe_type(self) -> object:
        return None

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        old, new = items_of(stored), items_of(encoded)
        if old is None or new is None:
            return encoded
        for number, (shape, raw) in enumerate(zip(self.items, old, strict=False)):
            if shape is not None and number < len(new):
                new[number] = shape.keep(raw, new[number])
        if self._may_grow and len(new) == len(self.items):
            new += old[len(new) :]
        return Raw(_encode(new))

    def known(self, stored: Raw) -> object:
        items = items_of(stored)
        if items is None:
            return plain(stored)
        return [
            plain(raw) if shape is None else shape.known(raw) for shape, raw in zip(self.items, items, strict=False)
        ]

    def inner(self) -> Sequence[Shape]:
        return [shape for shape in self.items if shape is not None]


class _OneOf:
    """A union."""

    def __init__(self, members: Sequence[Shape]) -> None:
        self._members = members

    def has_unknown(self, stored: Raw) -> bool:
        return any(member.has_unknown(stored) for member in self._members)

    def probe_type(self) -> object:
        return None

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        member = self._of(encoded)
        return encoded if member is None else member.keep(stored, encoded)

    def known(self, stored: Raw) -> object:
        member = self._of(stored)
        return plain(stored) if member is None else member.known(stored)

    def inner(self) -> Sequence[Shape]:
        return self._members

    def _of(self, raw: Raw) -> Shape | None:
        """The member that this is: by its tag, or else that which knows the most of its fields."""
        fields = fields_of(raw)
        if fields is None:
            return next((each for each in self._members if isinstance(each, (_Items, _Places))), None)
        objects = [each for each in self._members if isinstance(each, _Object) and each.fits(fields)]
        if objects:
            return max(objects, key=lambda each: (len(each.names & fields.keys()), -len(each.names)))
        return next((each for each in self._members if isinstance(each, _Values)), None)


def _decoder_of(probe_type: Any) -> Probe | None:
    return None if probe_type is None else msgspec.json.Decoder(probe_type).decode


def _fits(probe: Probe, stored: Raw) -> bool:
    try:
        probe(stored)
    except msgspec.DecodeError:
        return False
    return True


def shape_of(described: inspect.Type, made: dict[object, Shape] | None = None) -> Shape | None:
    """The shape of a type; `None` if no object with fixed fields is in it.

    Args:
        described: the type.
        made: the shapes of the objects around, for types that contain themselves.
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
        return _places([shape_of(field.type, made) for field in described.fields])
    item = getattr(described, "item_type", None)
    return None if item is None else _items(shape_of(item, made))


def _of_object(
    described: inspect.DataclassType | inspect.TypedDictType | inspect.StructType, made: dict[object, Shape]
) -> Shape:
    if id(described) in made:
        return made[id(described)]
    shape = _Object(described, (field.encode_name for field in described.fields))
    made[id(described)] = shape  # before its fields are looked at, which may be of this type again
    if isinstance(described, inspect.StructType) and described.tag_field is not None:
        shape.names |= {described.tag_field}
        shape.constants[described.tag_field] = frozenset({described.tag})
    for field in described.fields:
        if (inside := shape_of(field.type, made)) is not None:
            shape.inside.append((frozenset({field.encode_name}), inside))
    return shape


def _of_array(described: inspect.StructType, made: dict[object, Shape]) -> Shape:
    if id(described) in made:
        return made[id(described)]
    items: list[Shape | None] = [] if described.tag_field is None else [None]
    shape = made[id(described)] = _Places(items, may_grow=not described.forbid_unknown_fields, source=described)
    items += [shape_of(field.type, made) for field in described.fields]
    return shape


def _of_model(model: Any, made: dict[object, Shape]) -> Shape | None:
    """The shape of a pydantic model."""
    fields: Mapping[str, Any] | None = getattr(model, "model_fields", None)
    if fields is None:
        return None
    if model in made:
        return made[model]
    if getattr(model, "__pydantic_root_model__", False):
        return _of_annotation(fields["root"].annotation, made)
    shape = _Object(model, takes_all=model.model_config.get("extra") == "allow")
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
    annotation = getattr(annotation, "__value__", annotation)
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
        return shape_of(inspect.type_info(annotation), made)
    return None


def _one_of(members: Iterable[Shape | None]) -> Shape | None:
    shapes = [member for member in members if member is not None]
    return _OneOf(shapes) if len(shapes) > 1 else shapes[0] if shapes else None


def _values(value: Shape | None) -> Shape | None:
    return None if value is None else _Values(value)


def _items(item: Shape | None) -> Shape | None:
    return None if item is None else _Items(item)


def _places(items: Sequence[Shape | None]) -> Shape | None:
    return _Places(items) if any(item is not None for item in items) else None


def with_unknown(shape: Shape | None, stored: Raw, converted: Raw) -> Raw:
    """Add the unknown fields of an object to what it was converted to, unless that has such fields itself."""
    if not isinstance(shape, _Object) or shape.takes_all or not shape.has_unknown(stored):
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
            names |= each.names if isinstance(each, _Object) else frozenset()
            left += each.inner()
    return frozenset(names)


def first_missing(before: object, after: object, ignored: frozenset[str], path: str = "$") -> str | None:
    """The path of the first field or item that is in the first of two trees of JSON only.

    Args:
        before: as `plain` gives it.
        after: the same.
        ignored: names of fields that may be missing, since they have a default or an alias.
        path: of the trees.
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


def fields_of(raw: Raw) -> Fields | None:
    """The fields of a JSON object; `None` for other JSON. Raises `UnicodeDecodeError` if a name is not UTF-8."""
    try:
        return _decode_fields(raw)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:
        bytes(raw).decode()  # msgspec itself raises UnicodeDecodeError before 0.23
        return None


def items_of(raw: Raw) -> Items | None:
    """The items of a JSON array; `None` for other JSON."""
    try:
        return _decode_items(raw)
    except msgspec.DecodeError:
        return None


def plain(raw: Raw) -> object:
    """The data as dicts, lists, texts and numbers."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return bytes(raw)


def _first(names: Iterable[str], fields: Fields) -> str | None:
    return next((name for name in names if name in fields), None)


def _is_in(value: object, constants: frozenset[object]) -> bool:
    return isinstance(value, (str, int, type(None))) and value in constants


def _matches(before: list[object], after: list[object]) -> Iterator[tuple[int, int]]:
    """Which items of a list are the same ones before and after a change, by their indices."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for number, item in reversed(list(enumerate(before))):
        places[_encode_sorted(item)].append(number)
    changed: list[int] = []
    left = set(range(len(before)))
    for number, item in enumerate(after):
        equal = places.get(_encode_sorted(item))
        if not equal:
            changed.append(number)
            continue
        # Of equal items, the one at the same index if it is among them.
        found = equal.pop(equal.index(number)) if number in equal else equal.pop()
        left.discard(found)
        yield found, number
    yield from _alike(before, after, left, changed)


def _alike(before: list[object], after: list[object], left: set[int], changed: list[int]) -> Iterator[tuple[int, int]]:
    if len(left) * len(changed) <= _MOST_COMPARED:
        scores = [(_shared(before[one], after[other]), one, other) for one in left for other in changed]
        for score, one, other in sorted(scores, key=lambda each: (-each[0], abs(each[1] - each[2]), each[1:])):
            if score and one in left and other in changed:
                left.discard(one)
                changed.remove(other)
                yield one, other
    if len(before) == len(after):
        yield from ((number, number) for number in changed if number in left)


def _shared(one: object, other: object) -> int:
    """How many fields of two objects are equal."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return 0
    fields = cast("dict[str, object]", other)
    return sum(name in fields and fields[name] == value for name, value in cast("dict[str, object]", one).items())
