"""What the storage's answer to a change means for the update that made it."""

from __future__ import annotations

from chatsession.errors import SessionConflictError, SessionError
from chatsession.storages import Change, Committed, Outcome
from chatsession.storages.base import LEASE_LOST, TOUCH


def verdict(change: Change, outcome: Outcome) -> Committed | SessionError:
    """What became of a change: it was made, or why not."""
    if type(outcome) is Committed or isinstance(outcome, SessionError):
        return outcome
    if change.action is TOUCH:  # the one who was faster has counted the time to live anew
        return Committed(change.expect)
    if outcome is LEASE_LOST:
        what = "its lock was lost, because the handler (or this process) stalled for longer than lock_lease"
    else:
        what = "somebody else changed it since it was loaded"
    return SessionConflictError(
        f"{what}; nothing was written, handle the update again if it must count", key=change.key
    )


def made(change: Change, outcome: Outcome) -> Committed:
    """As `verdict`, but raises why not."""
    if type(outcome) is Committed:
        return outcome
    result = verdict(change, outcome)
    if isinstance(result, SessionError):
        raise result
    return result
