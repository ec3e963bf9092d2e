"""`python -m chatsession.web URL`, which is what `chatsession web URL` runs."""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chatsession.errors import SessionError, StorageError
from chatsession.web import serve

KEYS = "CHATSESSION_ENCRYPTION_KEYS"


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="chatsession web",
        description="Looks at stored sessions in the browser, on 127.0.0.1 only.",
        epilog=f"Encrypted sessions are shown if {KEYS} has their keys, separated by commas, the newest first.",
    )
    parser.add_argument("url", help="of the storage, such as sqlite:///bot.db; env:NAME: the URL in that variable")
    parser.add_argument("--port", type=int, default=0, help="to listen on; a free one by default")
    parser.add_argument("--read-only", action="store_true", help="look, and change nothing")
    options = parser.parse_args()
    keys = [key for key in os.environ.get(KEYS, "").split(",") if key]
    try:
        url = _found(options.url)
        serve(url, port=options.port, read_only=options.read_only, encryption_keys=keys)
    except (SessionError, ImportError, OSError, OverflowError, ValueError) as error:
        print(f"chatsession: {error}", file=sys.stderr)
        return 1
    return 0


def _found(url: str) -> str:
    """The URL, also if it stands in the environment; a file that is not there is a typing error, and not made."""
    scheme, _, name = url.partition(":")
    if scheme == "env":
        if name not in os.environ:
            raise StorageError(f"the environment variable {name} is not set")
        return _found(os.environ[name])
    if scheme in ("sqlite", "file"):
        path = unquote(urlsplit(url).path)
        path = path[1:] if scheme == "sqlite" else path
        if path and not Path(path).exists():
            raise StorageError(f"there is no {path}; has the bot stored anything yet?")
    return url


if __name__ == "__main__":
    sys.exit(main())
