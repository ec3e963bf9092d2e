"""The outcome of each session, for metrics, traces and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

Outcome: TypeAlias = Literal["written", "deleted", "touched", "unchanged", "failed", "conflict", "error"]


class SessionEvent(Struct, frozen=True, kw_only=True):
    """The life of one open session, from the request to the commit. Holds no session data.

    Attributes:
        key: the session's key, without the prefix.
        name: the manager's `name`.
        outcome: `"written"`, `"deleted"`; `"touched"`: only the time to live was renewed; `"unchanged"`: no write was
            needed; `"failed"`: the handler failed or was cancelled, and nothing was written; `"conflict"`: another
            update was faster, and nothing was written; `"error"`: the session could not be opened or stored.
        error: the name of the error's class, if there was one.
        started: the time of the request, in Unix seconds.
        wait: seconds until the session was loaded (queue, lock and read).
        held: seconds that the handler ran.
        commit: seconds to store it.
        read_bytes: size of what was stored; 0 if nothing was.
        written_bytes: size of what was written.
    """

    key: str
    name: str
    outcome: Outcome
    error: str | None
    started: float
    wait: float
    held: float
    commit: float
    read_bytes: int
    written_bytes: int


Observer: TypeAlias = Callable[[SessionEvent], object]
"""Called when a session has ended, in the task that ended it. It must be fast; its errors are only logged."""

_log = logging.getLogger("chatsession")


def log_sessions(event: SessionEvent) -> None:
    """An observer that logs one line per session to the logger `chatsession`, with all fields as `extra`.

    Examples:
        >>> from chatsession import SessionManager, log_sessions
        >>> sessions = SessionManager(int, storage="memory:", observe=log_sessions)
    """
    level = logging.WARNING if event.error is not None else logging.DEBUG
    if _log.isEnabledFor(level):
        extra = {f"session_{name}": getattr(event, name) for name in event.__struct_fields__}
        _log.log(level, "session %r of %r: %s", event.key, event.name, event.outcome, extra=extra)
