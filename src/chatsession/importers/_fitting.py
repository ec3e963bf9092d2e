"""From an entry's data to a value of the sessions' type, and what gets lost."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

import msgspec

from chatsession.errors import SessionDecodeError
from chatsession.importers._entries import Entry
from chatsession.options import SessionOptions
from chatsession.serialization.codec import CodecError, JsonCodec
from chatsession.serialization.migrations import Migrations

T = TypeVar("T")


class Fit(Generic[T]):
    """Makes values of a manager's type out of plain data.

    Raises:
        TypeError: the type has no form in JSON; such data needs a `convert`.
    """

    def __init__(self, options: SessionOptions[T]) -> None:
        self._codec: JsonCodec[T] = JsonCodec(options.value_type)
        self._migrations = Migrations(options.migrations) if options.migrations is not None else None

    def value(self, key: str, entry: Entry) -> tuple[T, list[str]]:
        """The value, and the paths of data that its type has no field for.

        Raises:
            SessionDecodeError: the data does not fit.
            SessionMigrationError: the data could not be brought up to date.
        """
        try:
            data = self._codec.encode_plain(entry.data)
            if entry.migrate and self._migrations is not None:
                data = self._migrations.run(key, data, entry.version)
            value = self._codec.decode(data)
            return value, _lost(msgspec.json.decode(data), msgspec.json.decode(self._codec.raw_encode(value)))
        except CodecError as error:
            raise SessionDecodeError(
                f"the data found for it does not fit the sessions' type: {error}; make it fit by convert=…", key=key
            ) from None
        except RecursionError:
            raise SessionDecodeError("the data found for it is nested too deeply", key=key) from None


def _lost(before: Any, after: Any, path: str = "$") -> list[str]:
    """The paths of what is only in the first of two trees of JSON; keys that may be data are not named."""
    if isinstance(before, dict) and isinstance(after, dict):
        lost: list[str] = []
        fields = cast("dict[str, Any]", after)
        for name, child in cast("dict[str, Any]", before).items():
            where = f"{path}.{name}" if name.isidentifier() and len(name) <= 60 else f"{path}[...]"
            lost += _lost(child, fields[name], where) if name in fields else [where]
        return lost
    if isinstance(before, list) and isinstance(after, list):
        pairs = zip(cast("list[Any]", before), cast("list[Any]", after), strict=False)
        return [found for one, other in pairs for found in _lost(one, other, f"{path}[...]")]
    return []
