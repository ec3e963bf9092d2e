"""`python -m chatsession.web URL`, which is what `chatsession web URL` runs."""

import argparse
import os
import sys

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
        url = _from_environment(options.url)
        serve(url, port=options.port, read_only=options.read_only, encryption_keys=keys)
    except (SessionError, ImportError, OSError, OverflowError, ValueError) as error:
        print(f"chatsession: {error}", file=sys.stderr)
        return 1
    return 0


def _from_environment(url: str) -> str:
    scheme, _, name = url.partition(":")
    if scheme != "env":
        return url
    if name not in os.environ:
        raise StorageError(f"the environment variable {name} is not set")
    return os.environ[name]


if __name__ == "__main__":
    sys.exit(main())
