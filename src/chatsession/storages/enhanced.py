"""`enhance_storage`: time to live and migrations around any `StorageAdapter`, in grammY's envelope."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from numbers import Real
from typing import Any, Generic, TypeVar, cast

import msgspec

from chatsession.serialization.migrations import Migration, Migrations
from chatsession.serialization.models import to_json
from chatsession.storages.adapter import StorageAdapter, settled

T = TypeVar("T")

_FIELDS = frozenset(("__d", "v", "e"))


def enhance_storage(
    storage: StorageAdapter[Any],
    *,
    milliseconds_to_live: float | None = None,
    migrations: Mapping[float, Migration] | None = None,
) -> EnhancedStorage[Any]:
    """Give a `StorageAdapter` a time to live and migrations, as grammY's `enhanceStorage` does.

    What it stores is `{"__d": data, "v": version, "e": expiry}`, with the data as plain lists and dicts; bare data is
    read as well. It offers `has`, `read_all_keys`, `read_all_values` and `read_all_entries` where
    the adapter does.

    Args:
        storage: the adapter.
        milliseconds_to_live: after the last write.
        migrations: as in `SessionOptions`.

    Examples:
        >>> from chatsession import SessionManager, enhance_storage
        >>> class Shelf(dict):
        ...     read, write, delete = dict.get, dict.__setitem__, lambda self, key: self.pop(key, None)
        >>> shelf = enhance_storage(Shelf(), migrations={1: lambda old: {"count": old}})
        >>> sessions = SessionManager(dict[str, int], storage=shelf)
    """
    if lacking := [name for name in ("read", "write", "delete") if not hasattr(storage, name)]:
        raise TypeError(f"storage takes a StorageAdapter; {type(storage).__name__} lacks {', '.join(lacking)}")
    if milliseconds_to_live is not None:
        if isinstance(milliseconds_to_live, bool) or not isinstance(milliseconds_to_live, Real):
            raise TypeError(f"milliseconds_to_live takes a number or None, not {milliseconds_to_live!r}")
        if not milliseconds_to_live > 0:
            raise ValueError(f"milliseconds_to_live must be positive, not {milliseconds_to_live!r}")
    return EnhancedStorage(storage, milliseconds_to_live, Migrations(migrations) if migrations is not None else None)


class EnhancedStorage(Generic[T]):
    """Made by `enhance_storage`."""

    def __init__(
        self, storage: StorageAdapter[Any], milliseconds_to_live: float | None, migrations: Migrations | None
    ) -> None:
        self._storage = storage
        self._milliseconds_to_live = milliseconds_to_live
        self._migrations = migrations

    async def read(self, key: str) -> T | None:
        """The migrated data; `None` if there is none or it has expired."""
        stored = await settled(self._storage.read(key))
        if stored is None:
            return None
        envelope = _envelope(stored)
        if self._has_expired(envelope):
            await settled(self._storage.delete(key))
            return None
        if self._milliseconds_to_live is not None and envelope.get("e") is None:  # from before there was a time to live
            await settled(self._storage.write(key, {**envelope, "e": self._expiry()}))
        return self._up_to_date(key, envelope)

    async def write(self, key: str, value: T) -> None:
        """Store data in an envelope."""
        envelope: dict[str, object] = {"__d": msgspec.to_builtins(value, enc_hook=_to_builtins)}
        if self._migrations is not None:
            envelope["v"] = self._migrations.latest
        if self._milliseconds_to_live is not None:
            envelope["e"] = self._expiry()
        await settled(self._storage.write(key, envelope))

    async def delete(self, key: str) -> None:
        """Delete a key."""
        await settled(self._storage.delete(key))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The optional methods that the adapter has."""
        optional = {
            "has": self._has,
            "read_all_keys": self._keys,
            "read_all_values": self._values,
            "read_all_entries": self._entries,
        }
        if name in optional and hasattr(self._storage, name):
            return optional[name]
        raise AttributeError(f"{type(self._storage).__name__} has no {name!r}")

    async def _has(self, key: str) -> bool:
        return await self.read(key) is not None

    def _keys(self) -> object:
        return cast("Any", self._storage).read_all_keys()

    async def _values(self) -> AsyncIterator[T]:
        async for value in _each(await settled(cast("Any", self._storage).read_all_values())):
            if (data := self._alive("", value)) is not None:
                yield data

    async def _entries(self) -> AsyncIterator[tuple[str, T]]:
        async for key, value in _each(await settled(cast("Any", self._storage).read_all_entries())):
            if (data := self._alive(key, value)) is not None:
                yield key, data

    def _alive(self, key: str, stored: Any) -> T | None:
        envelope = _envelope(stored)
        return None if self._has_expired(envelope) else self._up_to_date(key, envelope)

    def _has_expired(self, envelope: dict[str, Any]) -> bool:
        expires = envelope.get("e")
        return self._milliseconds_to_live is not None and expires is not None and expires < time.time() * 1000

    def _up_to_date(self, key: str, envelope: dict[str, Any]) -> T:
        data, migrations = envelope["__d"], self._migrations
        if migrations is None or envelope.get("v") == migrations.latest:
            return cast("T", data)
        return cast("T", msgspec.json.decode(migrations.run(key, msgspec.json.encode(data), envelope.get("v"))))

    def _expiry(self) -> float:
        return int(time.time() * 1000 + (self._milliseconds_to_live or 0))


def _envelope(stored: Any) -> dict[str, Any]:
    if isinstance(stored, dict) and "__d" in stored and _FIELDS.issuperset(cast("dict[str, Any]", stored)):
        return cast("dict[str, Any]", stored)
    return {"__d": stored}


async def _each(found: Any) -> AsyncIterator[Any]:
    if isinstance(found, AsyncIterable):
        async for item in cast("AsyncIterable[Any]", found):
            yield item
    else:
        for item in found:
            yield item


def _to_builtins(value: object) -> object:
    raw = to_json(value)
    return msgspec.json.decode(bytes(cast("msgspec.Raw", raw)))
