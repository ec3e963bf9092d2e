"""`python -m soak`: a steady load on every storage at once, with all that could leak written down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from soak._run import run
from soak._storages import STORAGES


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--storage", action="append", choices=list(STORAGES), help="only this one (may be repeated)")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=100, help="updates per second on each storage")
    parser.add_argument("--every", type=float, default=5, help="seconds from one sample to the next")
    parser.add_argument("--out", type=Path, default=Path("docs/soak"))
    given = parser.parse_args()
    ended_well = run(
        given.storage or list(STORAGES), given.out, minutes=given.minutes, rate=given.rate, every=given.every
    )
    sys.exit(not ended_well)


if __name__ == "__main__":
    main()
