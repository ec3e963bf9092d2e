"""`python -m chatsession.playground examples/pizza_bot.py`"""

import sys

from .terminal import main

if __name__ == "__main__":
    sys.exit(main())
