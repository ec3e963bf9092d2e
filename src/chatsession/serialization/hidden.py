"""Whether a value may hold something that its JSON does not show, such as an attribute that is not a field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, cast, get_origin

from msgspec import inspect

from chatsession.serialization.comparison import sets_all_fields, slots_of


def hiding(described: inspect.Type, parts: Iterable[inspect.Type]) -> Callable[[Any], bool] | None:
    """Make a function that tests whether a value may hide something; `None`: no value of this type does.

    Args:
        described: the type.
        parts: all types inside it, including itself.
    """
    hiders = [part for part in parts if _hides(part)]
    if not hiders:
        return None
    usual = _size_of_dict(described) if hiders == [described] else None
    if usual is None:
        return lambda _: True
    return lambda value: len(getattr(value, "__dict__", ())) != usual


def _hides(part: inspect.Type) -> bool:
    if isinstance(part, inspect.CustomType):
        return part.cls is not object
    if isinstance(part, (inspect.DataclassType, inspect.StructType)):
        return bool(_class_of(part).__dictoffset__) or _size_of_dict(part) is None
    return False


def _size_of_dict(part: inspect.Type) -> int | None:
    """How many attributes an object has in its `__dict__`, if these and its slots are all stored."""
    if isinstance(part, inspect.StructType):
        return 0
    if not isinstance(part, inspect.DataclassType):
        return None
    cls = _class_of(part)
    slots = slots_of(cls)
    if hasattr(cls, "__attrs_attrs__"):
        names = {str(field.name) for field in cls.__attrs_attrs__}
        return None if any(name.startswith("_") for name in names) else len(names - slots)
    names = {field.name for field in dataclasses.fields(cls)}
    return len(names - slots) if sets_all_fields(cls) and slots <= names else None


def _class_of(part: inspect.DataclassType | inspect.StructType) -> Any:
    return cast("Any", get_origin(part.cls) or part.cls)
