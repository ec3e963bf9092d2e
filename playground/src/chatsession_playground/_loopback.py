"""Runs a bot's script unchanged, as `__main__`, against another server than Telegram.

`python -m chatsession_playground._loopback URL SCRIPT` imports the framework, waits for a byte on its standard input,
and runs the script until that input ends.
"""

import os
import runpy
import sys
import threading
from pathlib import Path

from ._extra import require


def redirect_aiogram(url: str) -> None:
    """Make every `Bot` that names no server of its own talk to this one.

    Args:
        url: of a Bot API server, such as `"http://127.0.0.1:43210"`.
    """
    require("aiogram")
    from aiogram.client.telegram import PRODUCTION, TelegramAPIServer

    server = TelegramAPIServer.from_base(url)
    # All sessions share this one object as their default; it is frozen for everybody but us.
    object.__setattr__(PRODUCTION, "base", server.base)
    object.__setattr__(PRODUCTION, "file", server.file)


def run_as_main(script: Path) -> None:
    """Run a script as `python SCRIPT` does: its folder is the first to import from."""
    sys.argv = [str(script)]
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


def _leave_with_parent() -> None:
    # Whoever started us holds the other end of stdin. It closes when they are gone, however they went.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    """The command line."""
    url, script = sys.argv[1:]
    redirect_aiogram(url)
    if os.read(0, 1):  # it is time; or else whoever started us is gone
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        run_as_main(Path(script))


if __name__ == "__main__":
    main()
