"""What a storage's answer to a change means for its update."""

from __future__ import annotations

from chatsession.errors import SessionConflictError, SessionError
from chatsession.storages import Change, Committed, Outcome
from chatsession.storages.base import LEASE_LOST, TOUCH


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
