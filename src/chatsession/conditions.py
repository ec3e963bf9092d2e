"""Conditions for searching sessions by their data: `step=ask_address`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

import msgspec

_NOTHING = object()


class Condition(NamedTuple):
    """A place in a session's data, and the value that it must have.

    Args:
        path: names of fields and indexes of list items, from the outside in.
        value: the text of a string, or any value as JSON.
    """

    path: tuple[str, ...]
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse `step=ask_address`, or `cart.0.size=30` for nested values.

        Raises:
            ValueError: there is no `=`, or no path before it.
        """
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise ValueError("a condition is PATH=VALUE, as in step=ask_address or cart.0.size=30")
        return cls(tuple(path.split(".")), value)

    def holds(self, data: bytes | None) -> bool:
        """Whether a session's data meets the condition. Data that is not JSON meets none."""
        try:
            found = _at(None if data is None else msgspec.json.decode(data), self.path)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return found is not _NOTHING and (found == self.value or _is_json_of(self.value, found))


_INDEX = re.compile(r"[0-9]{1,9}")


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, dict) and name in value:
            value = cast("dict[str, Any]", value)[name]
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[int(name)]
        else:
            return _NOTHING
    return value


def _is_json_of(text: str, value: Any) -> bool:
    try:
        wanted = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return wanted == value and isinstance(wanted, bool) == isinstance(value, bool)


class Words(NamedTuple):
    """A text to find anywhere in a session's data, ignoring case."""

    words: str

    def holds(self, data: bytes | None) -> bool:
        """Whether a session's data contains it."""
        return data is not None and self.words.casefold() in data.decode(errors="replace").casefold()
