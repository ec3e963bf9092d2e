"""All commands together."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated

import typer

from chatsession import __version__
from chatsession.cli._arguments import SessionCommand

_COMMANDS = {
    "Look": {
        "ls": "listing:ls",
        "count": "listing:count_",
        "get": "single:get",
        "watch": "watching:watch",
        "stats": "stats:stats",
        "web": "web:web",
    },
    "Change": {"set": "single:set_", "edit": "editing:edit", "rm": "removing:rm", "delete": "removing:rm"},
    "Move": {
        "export": "exporting:export",
        "import": "moving:import_",
        "copy": "moving:copy",
        "move-in": "importing:move_in",
    },
    "Maintain": {
        "check": "health:check",
        "sweep": "health:sweep",
        "locks": "locks:locks",
        "updates": "updates:updates",
        "doctor": "doctor:doctor",
        "migrate": "rewriting:migrate",
        "rotate-keys": "rewriting:rotate_keys",
    },
    "Try": {"demo": "demo:demo"},
}
"""Each command's function, by the panel of the help that shows it."""

COMMANDS = [name for commands in _COMMANDS.values() for name in commands]


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """The program with the command that a command line names, and no more imported than that needs; else with all."""
    app = typer.Typer(
        name="chatsession",
        help="Look at the sessions of a chat bot, and repair and move them, while the bot runs.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # its report would show local variables, and so session data
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_main)
    wanted = words[:1] if words and words[0] in (*COMMANDS, "--version") else COMMANDS
    for panel, commands in _COMMANDS.items():
        for name, place in commands.items():
            if name in wanted:
                _add(app, panel, name, place)
    return app


def _add(app: typer.Typer, panel: str, name: str, place: str) -> None:
    module, _, attribute = place.partition(":")
    function = getattr(import_module(f"chatsession.cli.{module}"), attribute)
    if name == "demo":  # its words are for the playground
        settings = {"ignore_unknown_options": True, "allow_extra_args": True}
        app.command(name, rich_help_panel=panel, add_help_option=False, context_settings=settings)(function)
    else:
        app.command(name, cls=SessionCommand, rich_help_panel=panel)(function)


def _main(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version, and exit.", is_eager=True)] = False,
) -> None:
    if show_version:
        typer.echo(__version__)
        raise typer.Exit


def run() -> int:
    """Run the command that `sys.argv` names; returns the exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by `>&-`; a database must not get its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no emoji gets their escapes
            stream.reconfigure(errors="backslashreplace")
    # In UTF-8, whatever the locale says: a key is the same in all of them.
    words = [os.fsencode(word).decode(errors="surrogateescape") for word in sys.argv[1:]]
    try:
        make_app(words)(words, prog_name="chatsession", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
    return 0
