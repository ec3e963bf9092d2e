"""`demo`: a bot to try, in the playground."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import typer

from chatsession.cli._running import USAGE, CommandError, command

_PLAYGROUND = "chatsession_playground"


@command
def demo(context: typer.Context) -> int:
    """Chat with a bot in the playground, without Telegram: `chatsession demo examples/pizza_bot.py`."""
    if find_spec(_PLAYGROUND) is None:
        raise CommandError(USAGE, "the demo needs the playground: pip install chatsession-playground")
    return import_module(f"{_PLAYGROUND}.terminal").main(context.args, program="chatsession demo")
