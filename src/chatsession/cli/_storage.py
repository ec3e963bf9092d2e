"""The storage that a command works on, and which of its sessions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager

from chatsession.cli._running import USAGE, CommandError
from chatsession.cli._screen import note
from chatsession.errors import shown
from chatsession.maintenance import LOCK_TIMEOUT, Scope, scope_of
from chatsession.storages import Storage, open_storage

_PATIENCE = 0.5


def opened(url: str, *, create: bool = False) -> Storage:
    """The storage that a URL names, to be opened by `async with`.

    Args:
        url: as `open_storage` takes it.
        create: make a file or folder that is not there, which would be a typing error in most commands.
    """
    return open_storage(from_environment(url), create=create)


def from_environment(url: str) -> str:
    """`env:NAME` stands for the URL in that variable: a password in it is then in no list of processes."""
    scheme, _, name = url.partition(":")
    if scheme != "env":
        return url
    try:
        return os.environ[name]
    except KeyError:
        raise CommandError(USAGE, f"the environment variable {name} is not set") from None


async def scope(storage: Storage, prefix: str | None) -> Scope:
    """The sessions that `--prefix` names. Prints which other managers' sessions are left out."""
    found = await scope_of(storage, prefix)
    if found.others:
        others = ", ".join(shown(other) for other in sorted(found.others))
        note(f"left out: sessions of other managers, with the prefix {others}", "yellow")
    return found


@contextmanager
def says_it_waits(key: str) -> Generator[None]:
    """Print a note if the block, which changes a session, has to wait for the lock."""
    message = f"waiting for the update that is running for {shown(key)}, for {LOCK_TIMEOUT:.0f} s at most"
    timer = asyncio.get_running_loop().call_later(_PATIENCE, note, message, "yellow")
    try:
        yield
    finally:
        timer.cancel()
