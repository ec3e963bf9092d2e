"""One worker of a campaign: `python -m tools.torture.process OPTIONS`; `crew.py` is its other side.

Its clock can be shifted, and its connections lead through proxies: both is arranged before anything of the library is
imported, which then finds nothing but a machine with a strange clock and a strange network.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any


class Clock:
    """The time of day, off by some seconds."""

    def __init__(self) -> None:
        self._true = time.time
        self.shift = 0.0

    def __call__(self) -> float:
        return self._true() + self.shift


def lead_through_proxies(routes: Mapping[int, int]) -> None:
    """Have whoever connects to a server reach the proxy before it."""
    connect = asyncio.BaseEventLoop.create_connection

    async def create_connection(
        loop: asyncio.BaseEventLoop, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        return await connect(loop, factory, host, routes.get(port, port), **options)

    asyncio.BaseEventLoop.create_connection = create_connection  # type: ignore[method-assign]  # of all drivers


if __name__ == "__main__":
    clock = Clock()
    time.time = clock
    from tools.torture.messages import WorkerOptions  # noqa: I001 - after the clock
    from tools.torture.worker import run

    import msgspec

    options = msgspec.json.decode(sys.argv[1], type=WorkerOptions)
    lead_through_proxies(options.routes)
    sys.exit(run(options, clock))
