"""Connects within a bounded time, or says why that is not possible."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import nats.errors
from nats.aio.client import Client

from chatsession.errors import StorageError, StorageUnavailableError
from chatsession.storages._shared.sweeper import drop
from chatsession.storages.nats._calls import Calls
from chatsession.storages.nats._entries import Entries
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


class Connector:
    """Connects to the servers, unless a client was given.

    Args:
        servers: their URLs, or a connected client.
        credentials: the path of a credentials file.
        retry_for: seconds in which a server may start, or a busy one answer.
    """

    def __init__(self, servers: str | Sequence[str] | Client, credentials: str | None, retry_for: float) -> None:
        self._given = servers if isinstance(servers, Client) else None
        self._urls = [] if isinstance(servers, Client) else [servers] if isinstance(servers, str) else list(servers)
        for url in self._urls:
            _check_url(url)
        self._credentials = credentials or None
        self._retry_for = retry_for

    def __str__(self) -> str:
        """The servers' names in messages, without passwords."""
        if self._given is not None:
            return "a client of your own"
        return ", ".join(url.rpartition("@")[2].removeprefix("nats://") for url in self._urls)

    async def connect(self, calls: Calls) -> Client:
        """Give a client for the running event loop, which goes on reconnecting for as long as it is open.

        Args:
            calls: is told when a connection that was made here is lost, and of errors.

        Raises:
            StorageError: the server refuses these credentials or is too old, or the given client cannot be used here.
            StorageUnavailableError: no server can be reached, or the given client is closed.
        """
        client = self._given or await self._connect(calls)
        try:
            _check(client)
        except BaseException as error:
            await self.disconnect(client)
            if isinstance(error, ValueError):  # of what the server says about itself
                raise connection_error(error, str(self)) from None
            raise
        return client

    async def disconnect(self, client: Client) -> None:
        """Close a client that was connected here."""
        if self._given is None:
            # In a task of its own, because for a broken connection the driver raises the error that broke it, or
            # cancels the task that closes it.
            closing = asyncio.ensure_future(client.close())
            await asyncio.wait([closing])
            if (closing.cancelled() or closing.exception()) and client._transport is not None:
                client._transport.close()  # the driver has not come to this

    def discard(self, entries: Entries | None, sweeper: asyncio.Task[None] | None, *, inherited: bool) -> None:
        """Drop what belongs to a closed event loop or to the parent process. A given client is not touched.

        Args:
            entries: the entries that use the client; `None`: there is no connection.
            sweeper: the storage's task.
            inherited: the parent process still uses everything, so nothing is closed.
        """
        if inherited:
            _inherited.append((entries, sweeper))
            return
        tasks = [sweeper]
        if entries is not None and self._given is None:
            client = cast("Any", entries.calls.client)
            client._status = Client.CLOSED  # it must not reconnect, should its loop run again
            tasks += [subscription._wait_for_msgs_task for subscription in client._subs.values()]
            tasks += [client._reading_task, client._ping_interval_task, client._flusher_task, client._reconnection_task]
            _close_socket(client)
        for task in tasks:
            drop(task)

    async def _connect(self, calls: Calls, tries: int = 3) -> Client:
        client = Client()
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        last: Exception | None = None

        async def on_error(error: Exception) -> None:
            nonlocal last
            last = error
            _log.debug("NATS: %s", type(error).__name__)
            calls.refuse(error)
            if is_refusal(error) and not failed.done():
                failed.set_result(error)

        async def on_disconnected() -> None:
            calls.cut()

        async def on_reconnected() -> None:
            _watch(client)

        user, password, token = _login(self._urls)
        connecting = asyncio.ensure_future(
            client.connect(
                self._urls,
                error_cb=on_error,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                ping_interval=_PING_INTERVAL,
                max_outstanding_pings=1,
                name="chatsession",
                user_credentials=self._credentials,
                user=user,
                password=password,
                token=token,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_BETWEEN_TRIES,  # pyright: ignore[reportArgumentType] # seconds; it sleeps for them, whole or not
            )
        )
        try:
            await asyncio.wait((connecting, failed), timeout=self._retry_for, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done() and not failed.done():
                connecting.result()
                _watch(client)
                return client
        except (OSError, ValueError, TypeError, AttributeError, nats.errors.Error) as error:  # some of a wrong INFO
            last = error
        except ImportError:
            raise ImportError("a credentials file for NATS needs nkeys: pip install 'nats-py[nkeys]'") from None
        finally:
            if not connecting.done():
                connecting.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await connecting
        with suppress(Exception):
            await client.close()
        error = failed.result() if failed.done() else last
        if isinstance(error, ConnectionResetError) and tries > 1:  # it may refuse, and close before it says so
            return await self._connect(calls, tries - 1)
        raise connection_error(error, str(self))


def _check_url(url: str) -> None:
    """Raise `StorageError` if a URL names no server, or has no number for a port."""
    with suppress(ValueError):
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        if parts.hostname and parts.port != 0:
            return
    raise StorageError("a nats: URL must name a server, as in nats://127.0.0.1:4222; its port is a number")


def _login(urls: Sequence[str]) -> tuple[str | None, str | None, str | None]:
    """User, password and token of the first URL that has any; the driver would not percent-decode them."""
    for url in urls:
        login = url.rpartition("@")[0].partition("://")[2]
        if login:
            user, colon, password = map(unquote, login.partition(":"))
            return (user, password, None) if colon else (None, None, user)
    return None, None, None


def _check(client: Client) -> None:
    """Raise `StorageError` if a client cannot be used here, or its server is too old for the bucket."""
    task = cast("Any", client)._ping_interval_task
    if task is not None and task.get_loop() is not asyncio.get_running_loop():
        raise StorageError(
            "the NATS client that this storage was given belongs to another event loop or process; "
            "connect one in the loop that uses it, or give the storage the servers' URLs"
        )
    if client.is_closed:
        raise StorageUnavailableError("the NATS client that this storage was given is closed")
    if not isinstance(client.max_payload, int):  # pyright: ignore[reportUnnecessaryIsInstance] # the server said it
        raise ValueError("max_payload is not a number")
    version = client.connected_server_version
    if (0, 0) < (version.major, version.minor) < _OLDEST:
        raise StorageError(
            f"this is NATS server {version}, but sessions need {'.'.join(map(str, _OLDEST))} or newer; upgrade it"
        )


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
