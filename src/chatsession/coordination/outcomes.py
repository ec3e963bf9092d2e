"""What a storage's answer to a change means for its update."""

from __future__ import annotations

from collections.abc import Callable

from chatsession.errors import SessionConflictError, SessionError
from chatsession.storages import Change, Committed, Outcome, Record, Version
from chatsession.storages.base import DELETE, LEASE_LOST, TOUCH


def verdict(change: Change, outcome: Outcome) -> Committed | SessionError:
    """The change that was made, or the error that says why it was not."""
    if type(outcome) is Committed or isinstance(outcome, SessionError):
        return outcome
    if change.action is TOUCH:  # the update that was faster has renewed the time to live
        return Committed(change.expect)
    if outcome is LEASE_LOST:
        what = "its lock was lost, because the handler (or this process) stalled for longer than lock_lease"
    else:
        what = "somebody else changed it since it was loaded"
    return SessionConflictError(
        f"{what}; nothing was written, handle the update again if it must count", key=change.key
    )


def made(change: Change, outcome: Outcome) -> Committed:
    """`verdict`, but raises the error."""
    if type(outcome) is Committed:
        return outcome
    result = verdict(change, outcome)
    if isinstance(result, SessionError):
        raise result
    return result


def record_after(
    before: Record | None, change: Change | None, version: Version | None, now: Callable[[], float]
) -> Record | None:
    """What is stored after a change.

    Args:
        before: what was stored.
        change: what was done; `None`: nothing.
        version: of what is stored now.
        now: the storage's clock.
    """
    if change is None or (change.action is TOUCH and before is None):
        return before
    if change.action is DELETE:
        return None
    expires_at = None if change.ttl is None else now() + change.ttl
    if change.action is TOUCH and before is not None:
        return Record(before.value, before.version, expires_at)
    return Record(change.value, version, expires_at)
