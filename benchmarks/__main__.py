"""`make bench`: all groups, side by side; prints tables, keeps the raw results in docs/benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from benchmarks._group import Group
from benchmarks._measure import measure
from chatsession.testing.servers._process import ServerNotFoundError

GROUPS = ("middleware", "integrations", "sqlite", "redis", "postgres", "files", "nats", "tending")
"""Modules of this package, imported when it is their turn: a driver or a server that is missing stops only its own."""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("groups", nargs="*", default=list(GROUPS), help=f"of {', '.join(GROUPS)}; default: all")
    arguments.add_argument("--rounds", type=int, default=7, help="of each contender, interleaved (default: 7)")
    arguments.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    given = arguments.parse_args()
    if unknown := set(given.groups) - set(GROUPS):
        sys.exit(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    print(machine(), "\n")
    texts = [run(name, given.rounds, given.out) for name in given.groups]
    if set(given.groups) == set(GROUPS):
        (given.out / "README.md").write_text(f"# Benchmarks\n\nBy `make bench`. {machine()}\n\n" + "\n".join(texts))


def run(name: str, rounds: int, out: Path) -> str:
    """Measure one group, keep its raw results, and give its table."""
    try:
        with import_module(f"benchmarks.{name}").group() as group:
            asyncio.run(measure(group.contenders, rounds))
    except (ModuleNotFoundError, ServerNotFoundError) as error:
        text = f"## {name}\n\nNot measured: {error}\n"
    else:
        (out / f"{name}.json").write_text(json.dumps(raw(group), indent=2) + "\n")
        text = group.table()
    print(text)
    return text


def raw(group: Group) -> dict[str, object]:
    """All that was measured."""
    return {
        "title": group.title,
        "conditions": f"{machine()} {group.conditions}.",
        "contenders": [
            {"name": each.name, "updates": each.updates, "seconds": [round(s, 6) for s in each.seconds]}
            for each in group.contenders
        ],
    }


def machine() -> str:
    """Where it runs."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores."


if __name__ == "__main__":
    main()
