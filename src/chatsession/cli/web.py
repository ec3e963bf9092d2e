"""`web`: the inspector in the browser."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from chatsession.cli._keys import given_keys
from chatsession.cli._options import AsJson, Url
from chatsession.cli._running import FAILED, USAGE, CommandError, command
from chatsession.cli._screen import emit
from chatsession.cli._storage import from_environment


@command
def web(
    url: Url,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: a free one.")] = 0,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at sessions in the browser, on 127.0.0.1 only, and repair them."""
    from chatsession.web import serve  # needs the extra `web`, which all other commands do without

    announce = _emit_address if as_json else print
    try:
        serve(from_environment(url), port=port, read_only=read_only, encryption_keys=given_keys(), announce=announce)
    except OSError as error:  # the port is taken
        raise CommandError(FAILED, error.strerror or str(error)) from None
    except ValueError as error:  # an encryption key is malformed
        raise CommandError(USAGE, str(error)) from None


def _emit_address(line: str) -> None:
    """Print the address, which is all that a script needs."""
    address = line.strip()
    if address.startswith("http://"):
        emit({"url": address})
        sys.stdout.flush()
