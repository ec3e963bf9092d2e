"""Failures of single keys, for the calls that return no errors: renewing and abandoning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from chatsession.errors import SessionError, SessionKeyError

Result = TypeVar("Result")


def without_failures(results: Sequence[Result | SessionError]) -> Sequence[Result | None]:
    """Raise the first error. A key that cannot be stored is none: nobody holds it or waits for it."""
    found: list[Result | None] = []
    for result in results:
        if isinstance(result, SessionError) and not isinstance(result, SessionKeyError):
            raise result
        found.append(None if isinstance(result, SessionError) else result)
    return found
