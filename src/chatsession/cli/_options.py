"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Url: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="Where the sessions are: sqlite:///bot.db, redis://…, postgresql://…, file:///…, nats://…, mongodb://…, "
        "or env:NAME, a variable that holds one. Not needed if CHATSESSION_URL holds it.",
    ),
]


def _key(key: str) -> str:
    if not key:
        raise typer.BadParameter("a key has at least one character")
    return key


Key: TypeAlias = Annotated[
    str, typer.Argument(metavar="KEY", callback=_key, help="The session's key, with its prefix.")
]
Prefix: TypeAlias = Annotated[
    str | None,
    typer.Option("--prefix", "-p", help="Only sessions of the manager with this prefix, or whose keys begin with it."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", "-n", help="Write nothing; say what would be done.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Replace: TypeAlias = Annotated[
    bool, typer.Option("--replace", help="Replace sessions that the target has with other data (else it keeps them).")
]
