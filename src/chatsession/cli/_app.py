"""All commands together."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from chatsession import __version__
from chatsession.cli._arguments import SessionCommand
from chatsession.cli.demo import demo
from chatsession.cli.doctor import doctor
from chatsession.cli.editing import edit
from chatsession.cli.exporting import export
from chatsession.cli.health import check, sweep
from chatsession.cli.importing import move_in
from chatsession.cli.listing import count_, ls
from chatsession.cli.locks import locks
from chatsession.cli.moving import copy, import_
from chatsession.cli.removing import rm
from chatsession.cli.rewriting import migrate, rotate_keys
from chatsession.cli.single import get, set_
from chatsession.cli.stats import stats
from chatsession.cli.updates import updates
from chatsession.cli.watching import watch
from chatsession.cli.web import web

app = typer.Typer(
    name="chatsession",
    help="Look at the sessions of a chat bot, and repair and move them, while the bot runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its report would show local variables, and so session data
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS = {
    "Look": {"ls": ls, "count": count_, "get": get, "watch": watch, "stats": stats, "web": web},
    "Change": {"set": set_, "edit": edit, "rm": rm, "delete": rm},
    "Move": {"export": export, "import": import_, "copy": copy, "move-in": move_in},
    "Maintain": {
        "check": check,
        "sweep": sweep,
        "locks": locks,
        "updates": updates,
        "doctor": doctor,
        "migrate": migrate,
        "rotate-keys": rotate_keys,
    },
}
for panel, commands in _COMMANDS.items():
    for name, function in commands.items():
        app.command(name, cls=SessionCommand, rich_help_panel=panel)(function)
app.command(
    "demo",
    rich_help_panel="Try",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)(demo)


@app.callback(invoke_without_command=True)
def _main(  # pyright: ignore[reportUnusedFunction] - typer calls it
    show_version: Annotated[bool, typer.Option("--version", help="Show the version, and exit.", is_eager=True)] = False,
) -> None:
    if show_version:
        typer.echo(__version__)
        raise typer.Exit


def run() -> int:
    """Run the command that `sys.argv` names; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no emoji gets their escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="chatsession", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
    return 0
