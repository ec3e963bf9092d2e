"""What is stored of a conversation: its state and its data, as one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from msgspec import Raw, Struct
from msgspec.json import Decoder, Encoder

from chatsession.errors import SessionEncodeError
from chatsession.serialization.codec import JsonCodec
from chatsession.serialization.comparison import step_to
from chatsession.serialization.untyped import foreign

State: TypeAlias = str | int | None


class StateRecord:
    """A conversation's state and its data, stored together.

    Args:
        state: the name of the state; `None`: none is set.
        data: what handlers have put beside it, which is plain JSON.
    """

    __slots__ = ("_data", "_json", "state")

    def __init__(self, state: State, data: dict[str, Any]) -> None:
        self.state: State = state
        self._data: dict[str, Any] | None = data
        self._json: bytes | None = None

    @classmethod
    def of_json(cls, state: State, json: bytes, data: dict[str, Any] | None = None) -> StateRecord:
        """A record whose data is JSON already.

        Args:
            state: the name of the state.
            json: the data.
            data: the same, decoded; nobody else may have it.
        """
        record = cls.__new__(cls)
        record.state, record._json, record._data = state, json, data
        return record

    @property
    def data(self) -> dict[str, Any]:
        """The data; what is changed in it belongs to the record."""
        if self._data is None:
            self._data = _decode(self.json)
        self._json = None
        return self._data

    @property
    def json(self) -> bytes:
        """The data as JSON."""
        return _encode(self._data) if self._json is None else self._json

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it to store."""
        return self.state is None and self.json == b"{}"

    def copy_data(self) -> dict[str, Any]:
        """The data, as a dict that nobody else has."""
        if self._json is None:
            return _decode(_encode(self._data))
        data, self._data = self._data, None
        return _decode(self._json) if data is None else data

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, StateRecord) and self.state == other.state and _decode(self.json) == _decode(other.json)
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType] # its data can change

    def __repr__(self) -> str:
        return f"StateRecord({self.state!r}, {_decode(self.json)!r})"


EMPTY: Final = StateRecord.of_json(None, b"{}")
"""The record of a conversation that is not stored."""


def empty_record() -> StateRecord:
    """A record with nothing in it."""
    return StateRecord(None, {})


STATE: Final = object()
"""Stands for the state among the names of the data's fields."""


class _Stored(Struct):
    # No defaults: JSON of another library, which has other fields, must not pass for an empty record.
    state: State
    data: dict[str, Any]


class _HalfDecoded(Struct):
    state: State
    data: Raw


class StateCodec(JsonCodec[StateRecord]):
    """The JSON of records, whose data is known to be JSON already: `plain` has looked at it."""

    __slots__ = ("_decode_all",)

    def __init__(self) -> None:
        super().__init__(_Stored)
        self._decode_all = self.raw_decode
        self.raw_decode, self.raw_encode = self._record, _encoded
        self.same = lambda given, read_back: True
        self.proves = None

    def verify(self, given: StateRecord, read_back: StateRecord) -> None:
        """What was written is JSON, and comes back."""

    def _record(self, json: bytes) -> StateRecord:
        try:
            half = _decode_half(json)
            data = bytes(half.data)
            return StateRecord.of_json(half.state, data, _decode(data))
        except Exception:
            self._decode_all(json)  # raises an error that tells the path
            raise


def _encoded(record: StateRecord) -> bytes:
    return _encode(_HalfDecoded(record.state, Raw(record.json)))


class StateKey(Struct, frozen=True, gc=False):
    """Where the record of a conversation is."""

    text: str
    """The key, without the prefix."""
    owner: str
    """What all records of one conversation have in common: those of an update are committed with its own."""


def plain(data: Mapping[str, Any], key: str) -> bytes:
    """The JSON of some data.

    Args:
        data: what a handler wants to store.
        key: whose data it is.

    Raises:
        SessionEncodeError: a part of it, which is named by its path, is not JSON.
    """
    own = dict(data)
    try:
        if (found := foreign(own)) is None:
            return _encode(own)
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
    names: set[object] = set(changed_fields(_decode(one.json), _decode(other.json)))
    if one.state != other.state:
        names.add(STATE)
    return names


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of the fields that differ, or that only one of the two has."""
    return [name for name in before.keys() | after.keys() if not _same(name, before, after)]


def updated(record: StateRecord, fields: bytes) -> StateRecord:
    """The record with some fields of its data, which are JSON, put into it."""
    return StateRecord.of_json(record.state, _encode({**_decode(record.json), **_decode(fields)}))


def edited(record: StateRecord, before: Mapping[str, Any], after: Mapping[str, Any]) -> StateRecord | None:
    """The record with the fields changed that `after` has otherwise than `before`; `None`: others have changed them."""
    changed, data = changed_fields(before, after), _decode(record.json)
    if not all(_same(name, before, data) for name in changed):
        return None
    kept = {name: value for name, value in data.items() if name not in changed}
    new = {name: after[name] for name in changed if name in after}
    return StateRecord.of_json(record.state, _encode(kept | new))


def _same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if name not in one or name not in other:
        return name not in one and name not in other
    return _encode(one[name]) == _encode(other[name])  # 1 and True are equal, but not the same


_encode = Encoder().encode
_decode = Decoder(dict[str, Any]).decode
_decode_half = Decoder(_HalfDecoded).decode
