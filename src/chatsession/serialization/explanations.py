"""Explains what is wrong with a value, stored data or a type: paths, classes and reasons, never the data itself."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import msgspec
from msgspec import inspect

from chatsession.serialization.comparison import step_to
from chatsession.serialization.models import ModelError
from chatsession.serialization.type_info import class_of, is_any, is_foreign

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(\.\.\.)\]")
_AT = re.compile(r"`(\$[^`]*)`$")
_KEYS = (
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.UUIDType,
    inspect.BytesType,
    inspect.DateType,
    inspect.DateTimeType,
    inspect.TimeType,
    inspect.TimeDeltaType,
)
"""Types whose values can be names in a JSON object, beside `Any`."""


def unencodable(encode: Callable[[object], bytes], value: object, path: str = "$", depth: int = 50) -> str:
    """The class and path of the innermost part that does not encode."""
    if hasattr(value, "model_dump_json"):
        return _unencodable_field(encode, cast("Any", value), path, depth)
    for step, child in _children(value):
        try:
            encode(child)
        except Exception:
            return unencodable(encode, child, path + step, depth - 1) if depth else f"{path}{step} (a cycle?)"
    return f"{type(value).__name__} at `{path}`"


def _unencodable_field(encode: Callable[[object], bytes], model: Any, path: str, depth: int) -> str:
    """The same of a pydantic model, whose fields are encoded by rules of its own."""
    for name in cast("dict[str, object]", model.__class__.model_fields):
        try:
            model.model_dump_json(include={name}, round_trip=True)
        except Exception:
            if depth and hasattr(model, name):
                return unencodable(encode, getattr(model, name), f"{path}.{name}", depth - 1)
    return f"{model.__class__.__name__} at `{path}`"


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in cast("dict[object, object]", value).items():
            yield "[...]", key if isinstance(key, str) else 0
            yield step_to(key), child
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, child in enumerate(cast("list[object]", value)):
            yield f"[{number}]", child
    else:
        fields = getattr(value, "__struct_fields__", None) or getattr(value, "__dict__", {})
        for name in fields:
            yield f".{name}", getattr(value, name)


def reason(error: Exception) -> str:
    """Why a part does not encode."""
    if isinstance(error, UnicodeError):  # its own message quotes the text
        return "the text is not valid Unicode (a lone surrogate)"
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    return str(error)


def misfit(error: msgspec.ValidationError, decode: Callable[[bytes], object], data: bytes) -> str:
    """Why stored data does not fit, without the values that msgspec or a user's class quotes."""
    path = _path(error, decode, data)
    message, cause = str(error), error.__cause__
    if cause is not None and not isinstance(cause, ModelError):  # such as from `__post_init__`
        return f"the class refuses it with {type(cause).__name__}{f' - at `{path}`' if path else ''}"
    message = re.sub(r"^(Invalid (?:enum )?value) .*?( - at .*)?$", r"\1\2", message, flags=re.DOTALL)
    return _AT.sub(lambda _: f"`{path}`", message)


def _path(error: msgspec.ValidationError, decode: Callable[[bytes], object], data: bytes) -> str:
    """The path where data does not fit, with the keys of dictionaries, which msgspec does not name."""
    told = _AT.search(str(error))
    if told is None:
        return ""
    path = told.group(1)
    if "[...]" not in path:
        return path
    with suppress(Exception):  # a path that cannot be followed stays as msgspec gives it
        return _with_keys(path, msgspec.json.decode(data), str(error), decode)
    return path


def _with_keys(path: str, data: Any, message: str, decode: Callable[[bytes], object]) -> str:
    here, named = data, "$"
    for step in _STEP.finditer(path):
        name, number, some_key = step.groups()
        if some_key is None:
            here = here[int(number)] if number else here[name]
            named += step.group()
            continue
        key = _culprit(here, lambda: _fails(decode, data, message))
        here = here[key]
        named += step_to(key)
    return named


def _culprit(here: dict[str, Any], fails: Callable[[], bool]) -> str:
    """The first key whose value does not fit, found by halving the dictionary until only this one is left."""
    everything = dict(here)
    keys = list(everything)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        here.clear()
        here.update({key: everything[key] for key in half})
        keys = half if fails() else keys[len(half) :]
    here.clear()
    here[keys[0]] = everything[keys[0]]
    return keys[0]


def _fails(decode: Callable[[bytes], object], data: object, message: str) -> bool:
    try:
        decode(msgspec.json.encode(data))
    except msgspec.ValidationError as error:
        return str(error) == message
    return False


def unsuitable(kind: object, error: Exception) -> str:
    """Why values of a type cannot be stored, and what to do."""
    what = f"sessions of type {kind!r} cannot be stored"
    if isinstance(error, NameError):
        name = getattr(error, "name", None) or "a name"
        return f"{what}: {_undefined(name, _class_with(name, kind) or repr(kind))}"
    if isinstance(error, RecursionError):
        return f"{what}: it contains itself; let a class contain itself, as in `list[Node]` inside of `class Node`"
    if "more than one" in str(error):
        return (
            f"{what}: {error}. JSON does not tell the members of such a union apart; make each a msgspec.Struct with "
            "a tag, `class Card(msgspec.Struct, tag=True)`, or tell them by a Literal field and Field(discriminator=…) "
            "inside a pydantic model"
        )
    return f"{what}: {error}"


def _class_with(name: str, kind: object, seen: set[object] | None = None) -> str:
    """The class whose annotations contain an undefined name; "" if it is not found."""
    seen = set() if seen is None else seen
    for arg in typing.get_args(kind):
        if found := _class_with(name, arg, seen):
            return found
    cls = typing.get_origin(kind) or kind
    if not isinstance(cls, type) or cls in seen:
        return ""
    seen.add(cls)
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        return cls.__qualname__ if error.name == name else ""
    except Exception:  # annotations that only their own library understands
        return ""
    return next((found for hint in hints.values() if (found := _class_with(name, hint, seen))), "")


def unsuitable_part(described: inspect.Type) -> str | None:
    """Why a part of a type cannot be stored; `None`: it can."""
    if is_foreign(described):
        return _unsuitable_class(class_of(described))
    if not isinstance(described, inspect.DictType):
        return None
    key = described.key_type
    for kind in key.types if isinstance(key, inspect.UnionType) else (key,):
        if not isinstance(kind, _KEYS) and not is_any(kind):
            name = type(kind).__name__.removesuffix("Type").lower()
            return f"keys of dictionaries are texts in JSON, and cannot be a {name}; use texts or numbers, or a list"
    return None


def _unsuitable_class(cls: Any) -> str | None:
    if not hasattr(cls, "model_validate"):
        return (
            f"a {cls.__qualname__} has no form in JSON; make it a dataclass, a msgspec.Struct, a TypedDict, an attrs "
            "class or a pydantic model, or give the manager a codec of your own"
        )
    if getattr(cls, "__pydantic_complete__", True):
        return None
    try:
        cls.model_rebuild()
    except Exception as error:
        name = getattr(error, "name", None) or "a name"
        return _undefined(name, cls.__qualname__)
    return None


def _undefined(name: str, where: str) -> str:
    return (
        f"{name} in the annotations of {where} is not defined at run time; import it outside of `if TYPE_CHECKING:`, "
        "at the top of the module (a class made inside a function is not found either)"
    )
