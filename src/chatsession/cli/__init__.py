"""The command `chatsession`: looks at, repairs and moves sessions. Needs `pip install 'chatsession[cli]'`."""

from __future__ import annotations

import os
import sys

_INSTALL = "the command line needs typer and rich: pip install 'chatsession[cli]'"


def main() -> int:
    """Run the command line on `sys.argv`; returns the exit code (see `docs/command-line.md`)."""
    if os.environ.get("COLUMNS") == "0":  # of a terminal that does not know its size; nothing fits into none
        del os.environ["COLUMNS"]
    try:
        from chatsession.cli._app import run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        print(_INSTALL, file=sys.stderr)
        return 2
    return run()
