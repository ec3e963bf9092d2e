"""`web`: the inspector in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from chatsession.cli._keys import given_keys
from chatsession.cli._options import Url
from chatsession.cli._running import command, from_environment


@command
def web(
    url: Url,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: a free one.")] = 0,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, and change nothing.")] = False,
) -> None:
    """Look at sessions in the browser, on 127.0.0.1 only, and repair them."""
    from chatsession.web import serve  # needs the extra `web`, which all other commands do without

    serve(from_environment(url), port=port, read_only=read_only, encryption_keys=given_keys())
