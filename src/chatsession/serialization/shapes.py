"""The shape of a type's JSON: where it has objects with fixed fields, and how these keep unknown fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatsession.serialization.matching import matches
from chatsession.serialization.raw_json import Fields, fields_of, items_of, plain

_OTHERS = str | int | float | bool | None
"""What may stand in place of an object, a list or a dictionary that is a member of a union."""

_encode = msgspec.json.Encoder().encode


class Shape(ABC):
    """The places of objects with fixed fields in the JSON of a type."""

    @abstractmethod
    def has_unknown(self, stored: Raw) -> bool:
        """Whether there may be unknown fields. A quick test; `False` is certain."""

    def probe_type(self) -> Any:
        """A type that decodes only what has no unknown fields; `None`: there is no such type."""
        return None

    @abstractmethod
    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        """Add the unknown fields of `stored` to `encoded`."""

    @abstractmethod
    def known(self, stored: Raw) -> object:
        """The data without unknown fields, for comparison."""

    @abstractmethod
    def inner(self) -> Sequence[Shape]:
        """The shapes inside this one."""


class ObjectShape(Shape):
    """An object with fixed fields."""

    def __init__(self, names: Iterable[str] = (), *, takes_all: bool = False) -> None:
        self.names = frozenset(names)
        self.takes_all = takes_all
        self.inside: list[tuple[frozenset[str], Shape]] = []
        """The names of a field (more than one if it has aliases), and the shape of what is in it."""
        self.constants: dict[str, frozenset[object]] = {}
        """The values that distinguish this class from others."""
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

    def probe_type(self) -> Any:
        if self._is_being_probed:  # it contains itself
            return None
        known, left = self._known
        return None if left else known | _OTHERS

    @cached_property
    def _probe(self) -> tuple[Callable[[Raw], object], list[tuple[str, Shape]]]:
        """A decoder that only checks whether objects have fields of other names, and the fields that it ignores."""
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
        """Whether an object has the tag of this class, or none."""
        return all(
            name not in fields or _is_in(plain(fields[name]), constants) for name, constants in self.constants.items()
        )


class _Repeated(Shape):
    """Any number of parts of one type."""

    def __init__(self, part: Shape) -> None:
        self._part = part

    def has_unknown(self, stored: Raw) -> bool:
        if self._probe is None:
            return any(map(self._part.has_unknown, self._parts_of(stored)))
        try:
            self._probe(stored)
        except msgspec.DecodeError:
            return True
        return False

    @abstractmethod
    def _parts_of(self, stored: Raw) -> Iterable[Raw]: ...

    @cached_property
    def _probe(self) -> Callable[[Raw], object] | None:
        probe_type = self.probe_type()
        return None if probe_type is None else msgspec.json.Decoder(probe_type).decode

    def inner(self) -> Sequence[Shape]:
        return (self._part,)


class ValuesShape(_Repeated):
    """A dictionary with values of one type."""

    def _parts_of(self, stored: Raw) -> Iterable[Raw]:
        return (fields_of(stored) or {}).values()

    def probe_type(self) -> Any:
        inner = self._part.probe_type()
        return None if inner is None else dict[str, inner] | _OTHERS

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        old, new = fields_of(stored), fields_of(encoded)
        if old is None or new is None:
            return encoded
        for name in new.keys() & old.keys():
            new[name] = self._part.keep(old[name], new[name])
        return Raw(_encode(new))

    def known(self, stored: Raw) -> object:
        fields = fields_of(stored)
        return plain(stored) if fields is None else {name: self._part.known(raw) for name, raw in fields.items()}


class ItemsShape(_Repeated):
    """A list or set with items of one type."""

    def _parts_of(self, stored: Raw) -> Iterable[Raw]:
        return items_of(stored) or []

    def probe_type(self) -> Any:
        inner = self._part.probe_type()
        return None if inner is None else list[inner] | _OTHERS

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        old, new = items_of(stored), items_of(encoded)
        if old is None or new is None:
            return encoded
        for before, after in matches(list(map(self._part.known, old)), list(map(self._part.known, new))):
            new[after] = self._part.keep(old[before], new[after])
        return Raw(_encode(new))

    def known(self, stored: Raw) -> object:
        items = items_of(stored)
        return plain(stored) if items is None else list(map(self._part.known, items))


class PlacesShape(Shape):
    """A tuple with a type for each place, or an object stored as an array, which may have more items at its end."""

    def __init__(self, items: Sequence[Shape | None], *, may_grow: bool = False) -> None:
        self.items = items
        self._may_grow = may_grow

    def has_unknown(self, stored: Raw) -> bool:
        items = items_of(stored) or []
        if self._may_grow and len(items) > len(self.items):
            return True
        pairs = zip(self.items, items, strict=False)
        return any(shape is not None and shape.has_unknown(raw) for shape, raw in pairs)

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


class OneOfShape(Shape):
    """A union."""

    def __init__(self, members: Sequence[Shape]) -> None:
        self._members = members

    def has_unknown(self, stored: Raw) -> bool:
        return any(member.has_unknown(stored) for member in self._members)

    def keep(self, stored: Raw, encoded: Raw) -> Raw:
        member = self._of(encoded)
        return encoded if member is None else member.keep(stored, encoded)

    def known(self, stored: Raw) -> object:
        member = self._of(stored)
        return plain(stored) if member is None else member.known(stored)

    def inner(self) -> Sequence[Shape]:
        return self._members

    def _of(self, raw: Raw) -> Shape | None:
        """The member with this tag, or else the one that knows most of the fields."""
        fields = fields_of(raw)
        if fields is None:
            return next((each for each in self._members if isinstance(each, (ItemsShape, PlacesShape))), None)
        values = next((each for each in self._members if isinstance(each, ValuesShape)), None)
        objects = [each for each in self._members if isinstance(each, ObjectShape) and each.fits(fields)]
        if values is not None and all(each.names.isdisjoint(fields) for each in objects):
            return values
        return max(objects, key=lambda each: (len(each.names & fields.keys()), -len(each.names)), default=None)


def _first(names: Iterable[str], fields: Fields) -> str | None:
    return next((name for name in names if name in fields), None)


def _is_in(value: object, constants: frozenset[object]) -> bool:
    return isinstance(value, (str, int, type(None))) and value in constants
