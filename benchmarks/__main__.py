"""`make bench`: all groups, side by side; prints tables, keeps the raw results in docs/benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import middleware, sqlite
from benchmarks._measure import Contender, measure

GROUPS: dict[str, tuple[str, Callable[[], list[Contender]]]] = {
    "middleware": ("An update in memory, a session of 300 bytes", middleware.contenders),
    "sqlite": (
        f"SQLite, 300 bytes, 1,000 chats, synchronous={sqlite.SYNCHRONOUS}, every commit awaited",
        sqlite.contenders,
    ),
}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("groups", nargs="*", default=list(GROUPS), help=f"of {', '.join(GROUPS)}; default: all")
    arguments.add_argument("--rounds", type=int, default=7, help="of each contender, interleaved (default: 7)")
    arguments.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    given = arguments.parse_args()
    if unknown := set(given.groups) - set(GROUPS):
        sys.exit(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    print(conditions(), "\n")
    tables = [run(name, given.rounds, given.out) for name in given.groups]
    if set(given.groups) == set(GROUPS):
        text = f"# Benchmarks\n\nBy `make bench`. {conditions()}\n\n" + "\n".join(tables)
        (given.out / "README.md").write_text(text)


def run(name: str, rounds: int, out: Path) -> str:
    """Measure one group, keep its raw results, and give its table."""
    title, make = GROUPS[name]
    contenders = make()
    asyncio.run(measure(contenders, rounds))
    raw = {
        "title": title,
        "conditions": conditions(),
        "contenders": [
            {"name": each.name, "updates": each.updates, "seconds": [round(s, 6) for s in each.seconds]}
            for each in contenders
        ],
    }
    (out / f"{name}.json").write_text(json.dumps(raw, indent=2) + "\n")
    text = table(title, contenders)
    print(text)
    return text


def table(title: str, contenders: list[Contender]) -> str:
    """A Markdown table: medians, spread, and how each compares with the first."""
    floor = contenders[0].microseconds
    lines = [
        f"## {title}",
        "",
        "| | µs per update | updates per second | times the first |",
        "| --- | ---: | ---: | ---: |",
    ]
    for each in contenders:
        spread = f"± {each.spread:.0%}"
        speed = f"{1e6 / each.microseconds:,.0f}"
        lines.append(
            f"| {each.name} | {each.microseconds:,.2f} {spread} | {speed} | {each.microseconds / floor:,.2f} |"
        )
    return "\n".join(lines) + "\n"


def conditions() -> str:
    """The machine and the versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("msgspec", "aiogram", "aiosqlite"))
    return (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores; {packages}, SQLite {sqlite3.sqlite_version}."
    )


if __name__ == "__main__":
    main()
