"""`python -m chatsession_playground examples/pizza_bot.py`"""

import sys

from .terminal import main

if __name__ == "__main__":
    sys.exit(main())
