"""Sessions without asyncio: for scripts, threads and servers that fork.

from chatsession.sync import SessionManager

with sessions.open(key) as s:
    s.data.count += 1
"""

from chatsession.sync._manager import SessionManager
from chatsession.sync._session import Session, SessionGroup

__all__ = ["Session", "SessionGroup", "SessionManager"]
