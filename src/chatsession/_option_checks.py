"""Checks of the options: each error says in one sentence what the option takes."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from keyword import iskeyword
from numbers import Integral, Real
from typing import NamedTuple, cast


class _Rule(NamedTuple):
    """What an option takes."""

    takes: str
    fits: Callable[[object], bool]
    """Whether the option takes values of this type; if not, it is a `TypeError`."""
    makes_sense: Callable[[object], bool] = lambda _: True
    """Whether the option takes this value; if not, it is a `ValueError`."""


def check_options(options: Mapping[str, object]) -> None:
    """Check each option by itself.

    Args:
        options: by name.

    Raises:
        TypeError: a value has a wrong type.
        ValueError: a value has the right type, but is invalid.
    """
    for name, rule in _RULES.items():
        value = options[name]
        given = reprlib.repr(value)
        if not rule.fits(value):
            raise TypeError(f"{name} takes {rule.takes}, not {given}")
        if not rule.makes_sense(value):
            raise ValueError(f"{name} takes {rule.takes}, not {given}")


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real)


def _is_whole_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_duration(value: object) -> bool:
    return isinstance(value, timedelta) or _is_number(value)


def _is_positive(value: object) -> bool:
    number = value.total_seconds() if isinstance(value, timedelta) else cast("float", value)
    return 0 < number <= sys.float_info.max  # false for NaN


def _is_not_negative(value: object) -> bool:
    return cast("int", value) >= 0


def _is_identifier(value: object) -> bool:
    return cast("str", value).isidentifier() and not iskeyword(cast("str", value))


def _is_codec(value: object) -> bool:
    return not isinstance(value, type) and hasattr(value, "encode") and hasattr(value, "decode")


def _is_a(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


def _one_of(*choices: str) -> _Rule:
    names = ", ".join(map(repr, choices[:-1]))
    return _Rule(f"one of {names} and {choices[-1]!r}", _is_a(str), choices.__contains__)


_FUNCTION = _or_none(callable)

_RULES = {
    "get_session_key": _Rule("a function from the context of an update to a key", callable),
    "prefix": _Rule("a string", _is_a(str)),
    "ttl": _Rule(
        "a positive number of seconds, a timedelta, or None to keep sessions for ever",
        _or_none(_is_duration),
        _or_none(_is_positive),
    ),
    "expiry": _one_of("sliding", "fixed"),
    "migrations": _Rule("a mapping from version to function, as in {1: function}, or None", _or_none(_is_a(Mapping))),
    "concurrency": _one_of("exclusive", "optimistic", "last-write-wins"),
    "lock_timeout": _Rule(
        "a positive number of seconds, or None to wait for ever", _or_none(_is_number), _or_none(_is_positive)
    ),
    "lock_lease": _Rule("a positive number of seconds", _is_number, _is_positive),
    "max_size": _Rule("a positive whole number of bytes", _is_whole_number, _is_positive),
    "codec": _Rule("an object with the methods encode and decode, or None", _or_none(_is_codec)),
    "allow_unencrypted": _Rule("True or False", _is_a(bool)),
    "compression": _Rule(
        "the number of bytes above which sessions are compressed, or None",
        _or_none(_is_whole_number),
        _or_none(_is_not_negative),
    ),
    "deduplicate": _Rule("the number of updates to remember, or 0", _is_whole_number, _is_not_negative),
    "merge": _Rule("a function of the old chat's data and the new chat's data, or None", _FUNCTION),
    "on_decode_error": _one_of("raise", "quarantine", "reset"),
    "observe": _Rule("a function of a SessionEvent, or None", _FUNCTION),
    "name": _Rule("a string that can be the name of an attribute or a parameter", _is_a(str), _is_identifier),
}
