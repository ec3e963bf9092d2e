"""A check that several back ends make of their options."""

from __future__ import annotations

from chatsession.errors import StorageError


def is_seconds(value: object) -> bool:
    """Whether this is a positive number; `nan` is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def check_seconds(**options: object) -> None:
    """Raise `StorageError` for an option that is not a positive number of seconds."""
    for name, value in options.items():
        if not is_seconds(value):
            raise StorageError(f"{name} is in seconds and must be positive, not {value!r}")
