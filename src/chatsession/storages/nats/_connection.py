"""Connects within a bounded time, or says why that is not possible."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import nats.errors
from nats.aio.client import Client

from chatsession.errors import StorageError
from chatsession.storages._shared.sweeper import drop
from chatsession.storages.nats._errors import connection_error, is_refusal

_inherited: list[object] = []
"""Objects that a parent process still uses, kept so that they are not finalized here."""

_log = logging.getLogger("chatsession")

_BETWEEN_TRIES = 0.1
_PING_INTERVAL = 2
"""Seconds. A connection whose server does not answer is given up after two pings."""
_UNACKNOWLEDGED = 5_000
"""Milliseconds after which the kernel gives up a connection on which sent bytes are not acknowledged."""
_OLDEST = (2, 9)
"""The first version that reads single messages without a consumer."""


class Listener(Protocol):
    """Is told what happens to a connection."""

    def cut(self) -> None:
        """It was lost."""
        ...

    def refuse(self, error: Exception) -> None:
        """The driver has reported an error."""
        ...


async def connect(
    servers: Sequence[str],
    shown: str,
    credentials: str | None,
    listener: Listener,
    retry_for: float,
    tries: int = 3,
) -> Client:
    """Connect, and go on reconnecting for as long as the client is open.

    Args:
        servers: their URLs.
        shown: their names in messages, without passwords.
        credentials: the path of a credentials file.
        listener: is told what happens to the connection.
        retry_for: seconds in which a server may start, or a busy one answer.
        tries: how often to connect if the server closes the connection.

    Raises:
        StorageError: the server refuses these credentials.
        StorageUnavailableError: no server can be reached.
    """
    client = Client()
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    last: list[Exception] = []

    async def on_error(error: Exception) -> None:
        last.append(error)
        del last[:-1]
        _log.debug("NATS: %s", type(error).__name__)
        listener.refuse(error)
        if is_refusal(error) and not failed.done():
            failed.set_result(error)

    async def on_disconnected() -> None:
        listener.cut()

    async def on_reconnected() -> None:
        _watch(client)

    connecting = asyncio.ensure_future(
        client.connect(
            list(servers),
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            ping_interval=_PING_INTERVAL,
            max_outstanding_pings=1,
            name="chatsession",
            user_credentials=credentials,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_BETWEEN_TRIES,  # pyright: ignore[reportArgumentType] # seconds; it sleeps for them, whole or not
        )
    )
    try:
        await asyncio.wait((connecting, failed), timeout=retry_for, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done() and not failed.done():
            connecting.result()
            _watch(client)
            return client
    except (OSError, ValueError, nats.errors.Error) as error:
        last.append(error)
    except ImportError:
        raise ImportError("a credentials file for NATS needs nkeys: pip install 'nats-py[nkeys]'") from None
    finally:
        if not connecting.done():
            connecting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await connecting
    with suppress(Exception):
        await client.close()
    error = failed.result() if failed.done() else last[-1] if last else None
    if isinstance(error, ConnectionResetError) and tries > 1:  # it may refuse, and close before it says so
        return await connect(servers, shown, credentials, listener, retry_for, tries - 1)
    raise connection_error(error, shown)


def check_version(client: Client) -> None:
    """Raise `StorageError` if the server is too old for the bucket."""
    version = client.connected_server_version
    if (0, 0) < (version.major, version.minor) < _OLDEST:
        raise StorageError(
            f"this is NATS server {version}, but sessions need {'.'.join(map(str, _OLDEST))} or newer; upgrade it"
        )


def belongs_here(client: Client) -> bool:
    """Whether a client belongs to the running event loop."""
    task = cast("Any", client)._ping_interval_task
    return task is None or task.get_loop() is asyncio.get_running_loop()


def discard(entries: object, sweeper: asyncio.Task[None] | None, client: Client | None, inherited: bool) -> None:
    """Drop what belongs to a closed event loop or to the parent process.

    Args:
        entries: the entries that use the client.
        sweeper: the storage's task.
        client: a client that was connected here. `None`: it is the user's, and is not touched.
        inherited: the parent process still uses everything, so nothing is closed.
    """
    if inherited:
        _inherited.append((entries, sweeper, client))
        return
    tasks = [sweeper]
    if client is not None:
        made = cast("Any", client)
        made._status = Client.CLOSED  # it must not reconnect, should its loop run again
        tasks += [subscription._wait_for_msgs_task for subscription in made._subs.values()]
        tasks += [made._reading_task, made._ping_interval_task, made._flusher_task, made._reconnection_task]
        _close_socket(client)
    for task in tasks:
        drop(task)


def _close_socket(client: Client) -> None:
    """Close a connection whose event loop is closed, without awaiting."""
    transport = _transport_of(client)
    if transport is None:
        return
    plain = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
    for each in (transport, plain):
        with suppress(Exception):
            each.abort()
        with suppress(Exception):
            if plain._loop.is_closed():  # otherwise `abort` has left it to the loop
                each._call_connection_lost(None)


def _watch(client: Client) -> None:
    """Have the kernel notice a server that vanished without closing, even while bytes wait to be sent."""
    transport = _transport_of(client)
    connected = None if transport is None else transport.get_extra_info("socket")
    if connected is None:
        return
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)


def _transport_of(client: Client) -> Any:
    writer = getattr(client._transport, "_io_writer", None)
    return None if writer is None else writer.transport
