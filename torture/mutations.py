"""Guards taken out on purpose, so that a campaign proves that it would notice: `--mutation NAME`.

Each is called in every worker with the manager before anything else.
"""

from __future__ import annotations

from chatsession._session import Session
from chatsession.manager import SessionManager
from chatsession.storages import Expect
from chatsession.testing.counting import Counter


def no_leases_no_versions(sessions: SessionManager[Counter]) -> None:
    """Other processes are not thought of, and every commit is made, whatever is stored."""
    sessions._plan.gateway._leased = False
    Session._expected = lambda _: Expect.ANYTHING  # type: ignore[method-assign]  # the guard that is taken out
