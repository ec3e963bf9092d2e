"""`web`: the inspector in the browser, the same as `python -m chatsession.web`."""

from __future__ import annotations

import runpy
import sys

import typer


def web(context: typer.Context) -> None:
    """Look at sessions in the browser, on 127.0.0.1 only. (web --help has its options.)"""
    sys.argv = ["chatsession web", *context.args]
    runpy.run_module("chatsession.web", run_name="__main__", alter_sys=True)
