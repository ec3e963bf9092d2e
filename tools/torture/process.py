"""One worker of a campaign: `python -m tools.torture.process OPTIONS`; `crew.py` is its other side.

Its clock can be shifted, and its connections lead through proxies: both is arranged before anything of the library is
imported, which then finds nothing but a machine with a strange clock and a strange network.
"""

from __future__ import annotations

import sys
import time
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Mapping
from socket import AF_UNIX, socket
from typing import Any


class Clock:
    """The time of day, off by some seconds."""

    def __init__(self) -> None:
        self._true = time.time
        self.shift = 0.0

    def __call__(self) -> float:
        return self._true() + self.shift


def lead_through_proxies(routes: Mapping[int, int]) -> None:
    """Have every connection of the event loop to a server lead through the proxy before it, whichever driver asks."""
    connect = BaseSelectorEventLoop.sock_connect

    async def sock_connect(loop: BaseSelectorEventLoop, sock: socket, address: Any) -> None:
        if sock.family != AF_UNIX:
            host, port, *rest = address
            address = (host, routes.get(port, port), *rest)
        await connect(loop, sock, address)

    BaseSelectorEventLoop.sock_connect = sock_connect  # type: ignore[method-assign]  # also of those that exist


if __name__ == "__main__":
    clock = Clock()
    time.time = clock
    from tools.torture.messages import WorkerOptions  # noqa: I001 - after the clock
    from tools.torture.worker import run

    import msgspec

    options = msgspec.json.decode(sys.argv[1], type=WorkerOptions)
    lead_through_proxies(options.routes)
    sys.exit(run(options, clock))
