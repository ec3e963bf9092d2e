"""`make torture`: campaigns against every storage; prints a table, keeps the raw results.

Examples:
    python -m tools.torture                                        # all storages, until each has its fill
    python -m tools.torture --storage sqlite --seconds 20          # a short one
    python -m tools.torture --storage sqlite --mutation no_leases_no_versions --seconds 20   # must go red
    python -m tools.torture --check FOLDER                         # replay the histories of a campaign
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from tools.torture import report
from tools.torture.campaign import Aims, Result, run
from tools.torture.places import PLACES
from tools.torture.verdict import check


def main() -> int:
    """Run what is asked for; gives the exit code, 0 if all promises were kept."""
    given = _arguments().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # however it is ended, it leaves no server and no disk behind
        signal.signal(number, signal.default_int_handler)
    if given.check is not None:
        return _check(given.check, given.report)
    out = given.out or Path(tempfile.mkdtemp(prefix="torture-histories-"))
    results: list[Result] = []
    for name in given.storage or list(PLACES):
        folder = out / name
        if folder.exists() and any(folder.iterdir()):
            sys.exit(f"{folder} is not empty; histories of two campaigns must not mix")
        seed = secrets.randbelow(10**6) if given.seed is None else given.seed
        print(f"{name}: seed {seed}, histories in {folder}", flush=True)
        result = asyncio.run(run(name, folder, _aims(given), seed))
        results.append(result)
        print("\n".join(report.details(result)), flush=True)
        if given.report is not None:
            report.write([result], given.report)
    print("\n".join(report.table(results)))
    return 0 if all(result.good for result in results) else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(PLACES)
    parser.add_argument("--storage", action="append", choices=list(PLACES), help=f"one of {known}; default: all")
    parser.add_argument("--updates", type=int, default=1_000_000, help="acknowledged changes that are enough")
    parser.add_argument("--events", type=int, default=1_000, help="events that are enough")
    parser.add_argument("--seconds", type=float, default=3600, help="the longest that a campaign goes on")
    parser.add_argument("--seed", type=int, help="of all that is drawn; default: a new one")
    parser.add_argument("--workers", type=int, default=4, help="processes at a time")
    parser.add_argument("--in-flight", type=int, default=50, help="handlers that a worker runs at the same time")
    parser.add_argument("--chats", type=int, default=2000, help="chats in the long tail")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between events on average")
    parser.add_argument("--without", action="append", default=[], metavar="EVENT", help="an event left out, by name")
    parser.add_argument("--only", metavar="EVENT", help="the only event that happens, by name")
    parser.add_argument("--out", type=Path, help="folder of the histories; default: a new temporary one")
    parser.add_argument("--report", type=Path, help="folder of the table and the raw results, such as docs/torture")
    parser.add_argument("--mutation", help="take a guard out: a name in tools/torture/mutations.py, or module:function")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FOLDER",
        help="only check the histories of a campaign, and with --report say there what comes of it",
    )
    return parser


def _aims(given: argparse.Namespace) -> Aims:
    mutation: str | None = given.mutation
    if mutation is not None and ":" not in mutation:
        mutation = f"tools.torture.mutations:{mutation}"
    return Aims(
        updates=given.updates,
        events=given.events,
        seconds=given.seconds,
        workers=given.workers,
        in_flight=given.in_flight,
        tail=given.chats,
        pause=given.pause,
        mutation=mutation,
        without=frozenset(given.without),
        only=given.only,
    )


def _check(folder: Path, kept: Path | None) -> int:
    verdict = check(folder)
    if kept is not None:
        report.write_again(folder.name, verdict, kept)
    for fault in verdict.faults:
        print(fault)
    print(f"{verdict.updates:,} updates of {verdict.keys:,} keys, {len(verdict.faults)} violations")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
