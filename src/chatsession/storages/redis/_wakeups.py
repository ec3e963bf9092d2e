"""Wakes the waiters of this process when a lock is released elsewhere, on one connection for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import cast

from redis import exceptions as driver

from chatsession.storages._shared.sweeper import drop, end
from chatsession.storages._shared.waiters import WaiterRegistry, wake_token
from chatsession.storages.redis._connection import Wire, abort
from chatsession.storages.redis._errors import ReplyError, is_transient, reason
from chatsession.storages.redis._names import RESERVED
from chatsession.storages.redis._servers import Servers

_log = logging.getLogger("chatsession")

_LONGEST_WAIT = 1.0
"""Seconds after which a waiter asks again without being woken; a waiter that stays silent longer is dropped."""
_QUIET = 10.0
"""Seconds without a message after which the connection is checked."""


class Wakeups:
    """Listens on a channel of its own, where each message names a waiter that should try again.

    It connects when the first waiter waits. While the connection is down, or if the user may not subscribe, `wait`
    returns `False`, and the caller polls.
    """

    def __init__(self, servers: Servers, label: str) -> None:
        self.channel = f"{RESERVED.decode()}wake:{secrets.token_hex(8)}"
        self._servers = servers
        self._label = label
        self.waiters = WaiterRegistry()
        self._listener: asyncio.Task[None] | None = None
        self._listening = False

    def must_wait(self, waiter: str, seconds: float) -> None:
        """Note that a waiter must wait; without a message, it tries again after this many seconds."""
        self.waiters.must_wait(waiter, seconds)
        if self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def wait(self, waiter: str) -> bool:
        """Return `True` when it makes sense to try again, or `False` at once if no message can arrive."""
        if not self._listening:
            return False
        await self.waiters.wait(waiter, _LONGEST_WAIT)
        return True

    async def close(self) -> None:
        """Stop listening."""
        listener, self._listener = self._listener, None
        await end(listener)

    def forget(self) -> None:
        """Drop the task, whose event loop will never run it again."""
        drop(self._listener)

    async def _listen(self) -> None:
        pause = 0.1
        while True:
            try:
                await self._listen_once()
            except (ReplyError, driver.RedisError, OSError) as error:
                if not is_transient(error):
                    _log.warning(
                        "updates that wait for a lock of another process poll for it: %s cannot wake them, %s",
                        self._label,
                        reason(error),
                    )
                    return
                pause = 0.1 if self._listening else min(pause * 2, 2.0)
            finally:
                self._listening = False
            await asyncio.sleep(pause)
            with contextlib.suppress(ReplyError, driver.RedisError, OSError):  # the next attempt reports it
                await self._servers.relocate()

    async def _listen_once(self) -> None:
        if not self._servers.located:
            await self._servers.relocate()
        wire = self._servers.make(self._servers.places()[0][1])
        try:
            await wire.connect()
            await wire.send_packed_command(wire.pack_commands([("SUBSCRIBE", self.channel)]))
            await self._receive(wire)
        finally:
            abort(wire)

    async def _receive(self, wire: Wire) -> None:
        checked = False
        while True:
            message = await wire.read_response(
                disable_decoding=True, timeout=_QUIET, disconnect_on_error=False, push_request=True
            )
            if message is None:
                if checked:
                    raise driver.TimeoutError("the check was not answered")
                await wire.send_packed_command(wire.pack_commands([("PING",)]))
            checked = message is None
            if isinstance(message, list):
                self._handle(cast("list[object]", message))

    def _handle(self, message: list[object]) -> None:
        if message[0] == b"subscribe":
            self._listening = True
        elif message[0] == b"message" and isinstance(message[2], bytes):
            self.waiters.wake(wake_token(message[2].decode(errors="replace")))
