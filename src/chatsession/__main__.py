"""`python -m chatsession`, the same as the command `chatsession`."""

import sys

from chatsession.cli import main

if __name__ == "__main__":
    sys.exit(main())
