"""The inspector as a server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from chatsession.serialization.encryption import Keyring
from chatsession.storages import Storage, open_storage
from chatsession.web._app import Api
from chatsession.web._guard import Guard

LOOPBACK = "127.0.0.1"
SECONDS_TO_FINISH = 10
"""How long running requests may take when the server stops."""


@dataclass(frozen=True)
class Inspector:
    """A web inspector that runs."""

    port: int
    """On 127.0.0.1."""
    invite: Callable[[], str]
    """Makes an address that opens the inspector in a browser, once."""


def serve(
    url: str,
    *,
    port: int = 0,
    read_only: bool = False,
    encryption_keys: Sequence[str | bytes] = (),
    announce: Callable[[str], None] = print,
) -> None:
    """Run the web inspector until Ctrl-C.

    It listens on 127.0.0.1 only, and only the browser that opens the announced address, which works once, is let in.
    The bot may run meanwhile: an edit takes the key's lock as an update does, and is refused if the session is not
    any more what the page shows.

    Args:
        url: of the storage, as for `open_storage`.
        port: to listen on; 0: a free one.
        read_only: look, and change nothing.
        encryption_keys: as of the manager; without them encrypted sessions are not shown.
        announce: called with each line for the user; one of them is the address.

    Raises:
        StorageError: the URL is wrong, or the storage cannot be opened.
        OSError: the port is taken.
        ValueError: an encryption key is malformed.

    Examples:
        serve("sqlite:///bot.db", read_only=True)
    """

    async def run() -> None:
        stop = asyncio.Event()
        with contextlib.suppress(NotImplementedError):  # as on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with inspecting(
            open_storage(url, create=False),
            name=described(url),
            port=port,
            read_only=read_only,
            encryption_keys=encryption_keys,
        ) as inspector:
            announce(
                f"Sessions in {described(url)}{', to look at only' if read_only else ''}: open in a browser, once,"
            )
            announce(f"  {inspector.invite()}")
            announce("Ctrl-C ends the inspector.")
            await stop.wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


@asynccontextmanager
async def inspecting(
    storage: Storage,
    *,
    name: str = "",
    port: int = 0,
    read_only: bool = False,
    encryption_keys: Sequence[str | bytes] = (),
) -> AsyncGenerator[Inspector]:
    """Run the web inspector while the block runs, in your own program.

    Args:
        storage: opened and closed here, unless it is open.
        name: of the storage, for the page.
        port: and all else as for `serve`.

    Examples:
        async with inspecting(sessions.storage, read_only=True) as inspector:
            print(inspector.invite())
            await bot.run()
    """
    keyring = Keyring(encryption_keys) if encryption_keys else None
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        api = Api(
            storage,
            name=name or type(storage).__name__,
            read_only=read_only,
            keyring=keyring,
            invite=lambda: guard.invite(),
        )
        guard = Guard(api.app(), port)
        server = _Server(guard, api.closing)
        async with api.sessions:
            running = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await server.ready.wait()
                yield Inspector(port, guard.invite)
            finally:
                server.should_exit = True
                await asyncio.shield(running)


def described(url: str) -> str:
    """A storage's URL as it may be shown: without user, password and options."""
    scheme, _, rest = url.partition("//")
    if scheme not in ("sqlite:", "file:"):
        rest = rest.rpartition("@")[2]  # the last one, because a password may have others
    return f"{scheme}//{rest}".partition("?")[0] if rest else scheme


class _Server(uvicorn.Server):
    """Uvicorn, with streams that end when it does."""

    def __init__(self, app: Guard, closing: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=SECONDS_TO_FINISH,
            )
        )
        self.ready = asyncio.Event()
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # Ctrl-C is for the code inside `inspecting`


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"port {port} of {LOOPBACK} cannot be used: {error.strerror}; name another port"
        ) from None
    return listener
