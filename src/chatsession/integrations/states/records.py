"""What is stored of a conversation: its state and its data, as one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeVar, cast

from msgspec import Struct
from msgspec.json import Decoder, Encoder

from chatsession.errors import SessionEncodeError
from chatsession.serialization.codec import JsonCodec
from chatsession.serialization.comparison import step_to
from chatsession.serialization.untyped import foreign

State: TypeAlias = str | int | None
V = TypeVar("V")


class StateRecord(Struct, frozen=True):
    """A conversation's state and its data, stored together.

    Attributes:
        state: the name of the state; `None`: none is set.
        data: what handlers have put beside it, which is plain JSON.
    """

    # No defaults: JSON of another library, which has other fields, must not pass for an empty record.
    state: State
    data: dict[str, Any]


EMPTY: Final = StateRecord(None, {})
"""The record of a conversation that is not stored."""


def empty_record() -> StateRecord:
    """A record with nothing in it."""
    return StateRecord(None, {})


STATE: Final = object()
"""Stands for the state among the names of the data's fields."""


class StateCodec(JsonCodec[StateRecord]):
    """The JSON of records, whose data is known to be JSON already: `plain` has looked at it."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(StateRecord)
        self.same = lambda given, read_back: True


class StateKey(Struct, frozen=True, gc=False):
    """Where the record of a conversation is."""

    text: str
    """The key, without the prefix."""
    owner: str
    """What all records of one conversation have in common: those of an update are committed with its own."""


def plain(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A copy of the data, which shares nothing with it.

    Args:
        data: what a handler wants to store.
        key: whose data it is.

    Raises:
        SessionEncodeError: a part of it, which is named by its path, is not JSON.
    """
    own = dict(data)
    try:
        if (found := foreign(own)) is None:
            return copied(own)
    except RecursionError:
        raise SessionEncodeError(
            "the data is nested too deeply, or contains itself; nothing was written", key=key
        ) from None
    except Exception:
        where, why = _unencodable(own)
        raise SessionEncodeError(
            f"`$.data{where}` cannot be stored as JSON ({why}); nothing was written", key=key
        ) from None
    raise SessionEncodeError(
        f"{found.what} at `$.data{found.path}` cannot be stored: the data of a state is JSON, which has texts, "
        "finite numbers, True, False, None, lists, and dicts with texts as keys; nothing was written",
        key=key,
    )


def copied(value: V) -> V:
    """A copy of plain data, which shares nothing with it; by way of JSON, since nothing else is as fast."""
    return cast("V", _decode(_encode(value)))


def _unencodable(data: Mapping[str, Any]) -> tuple[str, str]:
    """The first field that cannot be JSON, and why."""
    for name, value in data.items():
        try:
            _encode({name: value})
        except Exception as error:
            return step_to(name), type(error).__name__
    raise AssertionError("each field can be encoded, and all together cannot")


def differing(one: StateRecord, other: StateRecord) -> set[object]:
    """The names of the data's fields in which two records differ, and `STATE`."""
    names: set[object] = set(changed_fields(one.data, other.data))
    if one.state != other.state:
        names.add(STATE)
    return names


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of the fields that differ, or that only one of the two has."""
    return [name for name in before.keys() | after.keys() if not _same(name, before, after)]


def edited(record: StateRecord, before: Mapping[str, Any], after: Mapping[str, Any]) -> StateRecord | None:
    """The record with the fields changed that `after` has otherwise than `before`; `None`: others have changed them."""
    changed = changed_fields(before, after)
    if not all(_same(name, before, record.data) for name in changed):
        return None
    data = {name: value for name, value in record.data.items() if name not in changed}
    return StateRecord(record.state, data | {name: after[name] for name in changed if name in after})


def _same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if name not in one or name not in other:
        return name not in one and name not in other
    return _encode(one[name]) == _encode(other[name])  # 1 and True are equal, but not the same


_encode = Encoder().encode
_decode = Decoder().decode
