"""A connection of our own, made within a bounded time and with clear words when it cannot be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import nats.errors
from nats.aio.client import Client

from chatsession.errors import StorageError, StorageUnavailableError

_log = logging.getLogger("chatsession")

_BETWEEN_TRIES = 0.1
_NO_ADMITTANCE = ("authorization", "authentication", "permissions", "nkey", "user account")


async def connect(
    servers: Sequence[str],
    shown: str,
    credentials: str | None,
    disconnected: Callable[[], None],
    retry_for: float,
    tries: int = 3,
) -> Client:
    """Connect, and go on reconnecting for as long as the client is open.

    Args:
        servers: their URLs.
        shown: what to call them in messages, without passwords.
        credentials: the path of a credentials file.
        disconnected: is called when the connection is lost.
        retry_for: seconds in which a server that is just starting may come up, or a busy one answer.
        tries: how often to knock, should the server hang up.

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
        if _is_refusal(error) and not failed.done():
            failed.set_result(error)

    async def on_disconnected() -> None:
        disconnected()

    connecting = asyncio.ensure_future(
        client.connect(
            list(servers),
            error_cb=on_error,
            disconnected_cb=on_disconnected,
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
    with suppress(Exception):  # it never was of any use
        await client.close()
    error = failed.result() if failed.done() else last[-1] if last else None
    if isinstance(error, ConnectionResetError) and tries > 1:  # a server that refuses may hang up before it says so
        return await connect(servers, shown, credentials, disconnected, retry_for, tries - 1)
    raise _in_words(error, shown)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, nats.errors.Error) and any(word in str(error).lower() for word in _NO_ADMITTANCE)


def _in_words(error: Exception | None, shown: str) -> StorageError:
    # The driver's own text stays out: it may repeat the URL, and with it the password.
    if error is not None and _is_refusal(error):
        return StorageError(f"NATS at {shown} refuses these credentials; check user, password or credentials file")
    if isinstance(error, FileNotFoundError):
        return StorageError("the credentials file for NATS is not there")
    why = "" if error is None else f" ({type(error).__name__})"
    return StorageUnavailableError(f"NATS at {shown} cannot be reached{why}; is the server running?")
