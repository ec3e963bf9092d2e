"""The outcome of each session, for metrics, traces and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

Outcome: TypeAlias = Literal["written", "deleted", "touched", "unchanged", "failed", "conflict", "error"]


class SessionEvent(Struct, frozen=True, kw_only=True):
    """One open session, from the request for it to its end. It holds no session data.

    Attributes:
        key: the key, without the prefix.
        name: of the manager.
        outcome: `"written"`, `"deleted"`; `"touched"`: only the time to live was counted anew; `"unchanged"`: no write
            was needed; `"failed"`: the handler failed or was cancelled, and nothing was written; `"conflict"`: nothing
            was written because another update was faster; `"error"`: it could not be opened or stored.
        error: the name of the error's class, where there was one.
        started: when it was asked for, Unix time in seconds.
        wait: seconds until it was loaded: queue, lock and read.
        held: seconds that the handler ran.
        commit: seconds that storing it took.
        read_bytes: size of what was stored; 0: nothing was.
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
"""Called when a session has ended, in the task that ended it. It must be quick, and its errors are only logged."""

_log = logging.getLogger("chatsession")


def log_sessions(event: SessionEvent) -> None:
    """An observer that writes one line a session to the logger `chatsession`, with all fields as `extra`.

    Examples:
        >>> from chatsession import SessionManager, log_sessions
        >>> sessions = SessionManager(int, storage="memory:", observe=log_sessions)
    """
    level = logging.WARNING if event.error is not None else logging.DEBUG
    if _log.isEnabledFor(level):
        extra = {f"session_{name}": getattr(event, name) for name in event.__struct_fields__}
        _log.log(level, "session %r of %r: %s", event.key, event.name, event.outcome, extra=extra)
