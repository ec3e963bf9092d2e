"""`python -m tools.soak`: a steady load on every storage at once, with all that could leak written down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.soak._run import run
from tools.soak._storages import STORAGES


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--storage", action="append", choices=list(STORAGES), help="only this one (may be repeated)")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=100, help="updates per second on each storage")
    parser.add_argument("--every", type=float, default=5, help="seconds from one sample to the next")
    parser.add_argument("--out", type=Path, default=Path("docs/soak"))
    parser.add_argument("--report", action="store_true", help="only draw and judge what an earlier run wrote down")
    parser.add_argument("--note", default="", help="what else the reader should know of the conditions")
    given = parser.parse_args()
    names = given.storage or list(STORAGES)
    if not given.report:
        run(names, given.out, minutes=given.minutes, rate=given.rate, every=given.every, note=given.note)
    from tools.soak._report import report  # needs matplotlib, which a run itself does not

    sys.exit(not report(given.out))


if __name__ == "__main__":
    main()
