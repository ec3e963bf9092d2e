"""`make bench`: all groups, side by side; prints tables, keeps tables, plots and raw results in docs/benchmarks."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from contextlib import AbstractContextManager
from datetime import date
from importlib import import_module
from pathlib import Path

from tools.benchmarks._group import Group
from tools.benchmarks._measure import measure
from tools.benchmarks._report import write_pages
from tools.benchmarks._results import Result, Run, write

MATRIX = ("memory", "file", "sqlite", "redis", "postgres", "nats", "mongo")
GROUPS = (
    *(
        "middleware",
        "integrations",
        "node",
        "sqlite",
        "redis",
        "postgres",
        "files",
        "nats",
        "mongo",
        "hot",
        "large",
        "tending",
        "polling",
    ),
    *(f"matrix-{name}" for name in MATRIX),
)
"""Modules of this package, imported when it is their turn: a driver or a server that is missing stops only its own."""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tools.benchmarks", description=__doc__)
    arguments.add_argument("groups", nargs="*", default=list(GROUPS), help=f"of {', '.join(GROUPS)}; default: all")
    arguments.add_argument("--rounds", type=int, default=3, help="of each contender, interleaved (default: 3)")
    arguments.add_argument("--seconds", type=float, default=0.3, help="that a round lasts, about (default: 0.3)")
    arguments.add_argument("--quick", action="store_true", help="a coarse look: one short round, half of the matrix")
    arguments.add_argument("--minutes", type=float, default=22.0, help="after which rounds are left out (default: 22)")
    arguments.add_argument("--out", type=Path, help="folder of the results (docs/benchmarks, or build/benchmarks)")
    given = arguments.parse_args()
    if unknown := set(given.groups) - set(GROUPS):
        sys.exit(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    rounds, seconds = (1, 0.05) if given.quick else (given.rounds, given.seconds)
    out = given.out or Path("build" if given.quick else "docs", "benchmarks")
    started = time.monotonic()
    failed = False
    for number, name in enumerate(given.groups):
        now = time.monotonic()
        print(f"[{now - started:5.0f} s] {number + 1} of {len(given.groups)}: {name}", flush=True)
        left = max(0.0, started + given.minutes * 60 - now)
        # Twice its share: groups that need less leave their time to the others.
        until = now + min(left, 2 * left / (len(given.groups) - number))
        try:
            result = run(name, rounds, seconds, until, quick=given.quick)
        except Exception as error:  # a group that cannot be set up stops only itself, and keeps its older results
            print(f"not measured: {type(error).__name__}: {error}", flush=True)
            failed = True
        else:
            print(result.text(), flush=True)
            write(out / f"{name}.json", result)
            failed |= any(each.failure for each in result.group.contenders)
    write_pages(out, GROUPS)
    print(f"{(time.monotonic() - started) / 60:.1f} minutes; results are in {out}")
    sys.exit(1 if failed else 0)


def run(name: str, rounds: int, seconds: float, until: float, *, quick: bool) -> Result:
    """Measure one group.

    Args:
        name: of the group.
        rounds: of each contender; some groups take several times as many.
        seconds: that a round lasts, about.
        until: `time.monotonic()` from which on rounds are left out.
        quick: take half of the matrix.
    """
    how = f"python -m tools.benchmarks {name} " + ("--quick" if quick else f"--rounds {rounds} --seconds {seconds:g}")
    origin = Run(machine(), date.today().isoformat(), how, os.getloadavg()[0])
    with opened(name, quick=quick) as group:
        measure(group.contenders, rounds if quick else group.times * rounds, seconds, until=until, progress=_progress)
        _progress("")
        return Result(group, group.verdicts(), origin)


def opened(name: str, *, quick: bool) -> AbstractContextManager[Group]:
    """The group of that name, with the servers that it needs."""
    if name.startswith("matrix-"):
        matrix = import_module("tools.benchmarks.matrix")
        return matrix.group(name.removeprefix("matrix-"), matrix.QUICK if quick else matrix.FULL)
    return import_module(f"tools.benchmarks.{name}").group()


def _progress(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K{text[:100]}", end="", flush=True)


def machine() -> str:
    """Where it runs."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores of {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "a processor without a name"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "an unnamed processor")


if __name__ == "__main__":
    main()
