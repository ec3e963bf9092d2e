"""A dictionary that notes which fields are read, to find what a migration drops without having read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values


class NotedDict(dict[str, Any]):
    """The data passed to a migration when nothing may be dropped unread."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self._unread = dict(data)

    def dropped(self, result: object) -> str | None:
        """The first field that was never read and is not in the result unchanged; `None`: there is none."""
        if result is self:
            return None
        kept = cast("dict[str, Any]", result) if isinstance(result, dict) else {}
        return next((name for name, value in self._unread.items() if name not in kept or kept[name] != value), None)

    def _note_all(self) -> None:
        self._unread.clear()

    def __getitem__(self, name: str) -> Any:
        self._unread.pop(name, None)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._unread.pop(str(name), None)
        return super().__contains__(name)

    def __delitem__(self, name: str) -> None:
        self._unread.pop(name, None)
        super().__delitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._unread.pop(name, None)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self._unread.pop(name, None)
        return super().pop(name, *default)

    def __iter__(self) -> Iterator[str]:
        self._note_all()
        return super().__iter__()

    def keys(self) -> dict_keys[str, Any]:
        self._note_all()
        return super().keys()

    def values(self) -> dict_values[str, Any]:
        self._note_all()
        return super().values()

    def items(self) -> dict_items[str, Any]:
        self._note_all()
        return super().items()

    def copy(self) -> dict[str, Any]:
        self._note_all()
        return super().copy()
