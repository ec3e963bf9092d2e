"""`python -m chatsession.web URL`"""

import argparse
import os
import sys

from chatsession.errors import SessionError
from chatsession.web import serve


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m chatsession.web",
        description="Looks at stored sessions in the browser, on 127.0.0.1 only.",
        epilog="Encrypted sessions are shown if CHATSESSION_ENCRYPTION_KEYS has their keys, separated by commas, "
        "the newest first.",
    )
    parser.add_argument("url", help="of the storage, such as sqlite:///bot.db")
    parser.add_argument("--port", type=int, default=0, help="to listen on; a free one by default")
    parser.add_argument("--read-only", action="store_true", help="look, and change nothing")
    options = parser.parse_args()
    keys = [key for key in os.environ.get("CHATSESSION_ENCRYPTION_KEYS", "").split(",") if key]
    try:
        serve(options.url, port=options.port, read_only=options.read_only, encryption_keys=keys)
    except (SessionError, ImportError, OSError, ValueError) as error:
        print(f"chatsession: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
