"""`web`: the inspector in the browser, the same as `python -m chatsession.web`."""

from __future__ import annotations

import runpy
import sys

import typer

from chatsession.cli._running import USAGE
from chatsession.cli._screen import note


def web(context: typer.Context) -> None:
    """Look at sessions in the browser, on 127.0.0.1 only. (web --help has its options.)"""
    sys.argv = ["chatsession web", *context.args]
    try:
        runpy.run_module("chatsession.web", run_name="__main__", alter_sys=True)
    except ImportError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        note(str(error), "red")  # the message says which extra to install
        raise typer.Exit(USAGE) from None
