"""What is entered by `async with` says so to people who write `with`."""

from __future__ import annotations

from typing import TYPE_CHECKING


class AsyncOnly:
    """Raises a `TypeError` that tells what to write, where Python names only a protocol."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers refuse `with` by themselves

        def __enter__(self):
            raise TypeError(f"{self!r} takes `async with` and not `with`; without asyncio, use chatsession.sync")

        def __exit__(self, *_):
            """For Python, which looks for it before it calls `__enter__`."""
