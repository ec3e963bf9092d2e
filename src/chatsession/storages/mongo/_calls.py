"""Calls that are tried again when the connection or the server fails, within a bound."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import pymongo
from pymongo.errors import PyMongoError

from chatsession.storages._shared.retries import retried
from chatsession.storages.mongo._errors import as_storage_error, passes

Result = TypeVar("Result")

Call: TypeAlias = Callable[[bool], Awaitable[Result]]
"""Takes whether an earlier try of the same call may have been carried out unnoticed."""


async def run(call: Call[Result], server: str, seconds: float) -> Result:
    """Make a call that can stand being made again.

    pymongo itself tries again on replica sets, and the server then recognizes a write; here a call is made again
    where pymongo does not, as on a server without replicas.

    Args:
        call: makes one try.
        server: what messages call the server.
        seconds: how long all tries may take together.

    Raises:
        StorageUnavailableError: no try succeeded in time.
        StorageError: the server refused the call, and would again.
    """
    end = asyncio.get_running_loop().time() + seconds
    pause = 0.02
    again = False
    with pymongo.timeout(seconds):
        while True:
            try:
                return await call(again)
            except (PyMongoError, OSError) as error:
                if not passes(error) or asyncio.get_running_loop().time() + pause >= end:
                    raise as_storage_error(error, server) from None
            again = True
            retried("MongoDB")
            await asyncio.sleep(pause * random.uniform(0.7, 1.0))
            pause = min(2 * pause, 1.0)
