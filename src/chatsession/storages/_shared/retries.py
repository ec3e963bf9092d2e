"""How often calls to servers had to be made again in this process: for logs and metrics, by the name of the server."""

from __future__ import annotations

import logging
from collections import Counter

_log = logging.getLogger("chatsession")

retries: Counter[str] = Counter()


def retried(server: str) -> None:
    """Note that a call is about to be made again, after the connection broke or while servers fail over."""
    retries[server] += 1
    _log.info("a call to %s is made again", server, extra={"storage": server})
