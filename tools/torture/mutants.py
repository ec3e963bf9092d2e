"""Take each guard out, and see after how many updates the campaign goes red: `python -m tools.torture.mutants`.

Writes docs/torture/mutants.md. A campaign is run again and again, twice as long each time, until it finds a fault.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import tempfile
from datetime import date
from pathlib import Path

from tools.torture import mutations
from tools.torture.campaign import Aims, Result, run
from tools.torture.report import machine

_FIRST, _LAST = 500, 32_000
"""Updates of the shortest and of the longest campaign."""
_SEED = 7

_PAIRS = [
    ("lock", "no_leases_no_versions", "sqlite"),
    ("lock", "no_leases_no_versions", "redis"),
    ("lock", "no_leases_no_versions", "postgres"),
    ("lock", "no_leases_no_versions", "nats"),
    ("turns within the process", "no_turns_no_versions", "memory"),
    ("fencing", "no_fencing_no_versions", "sqlite"),
    ("fencing", "no_fencing_no_versions", "redis"),
    ("fencing", "no_fencing_no_versions", "postgres"),
    ("compare-and-swap", "no_versions", "sqlite"),
    ("compare-and-swap", "no_versions", "redis"),
    ("compare-and-swap", "no_versions", "postgres"),
    ("compare-and-swap", "no_versions", "nats"),
    ("lock alone", "no_leases", "sqlite"),
    ("doubt of a process that stood still", "no_doubt_about_leases_no_versions_no_fencing", "sqlite"),
    ("nothing of a failed handler", "no_failed_handlers", "redis"),
    ("those who were given what fails, fail: of looks", "no_failing_together", "sqlite"),
    ("those who were given what fails, fail: of changes", "no_end_of_a_chain_no_versions", "sqlite"),
    ("cancellation shield", "no_shield", "redis"),
    ("retry de-duplication", "no_memory_of_commits", "redis"),
    ("retry de-duplication", "no_memory_of_commits", "postgres"),
    ("the bytes behind a ready value", "no_look_at_ready_values", "redis"),
]


def main() -> None:
    """Run all, or those that are named on the command line."""
    wanted = sys.argv[1:]
    rows = [
        "| guard | mutation | storage | caught after | by |",
        "| --- | --- | --- | ---: | --- |",
    ]
    for guard, name, storage in _PAIRS:
        if wanted and name not in wanted:
            continue
        what = " ".join((inspect.getdoc(getattr(mutations, name)) or "").split())
        updates, by = asyncio.run(_torment(name, storage))
        rows.append(f"| {guard} | `{name}`: {what} | {storage} | {updates} | {by} |")
        print(rows[-1], flush=True)
    if not wanted:
        behind = "What catches those with a dash: [Reliability](../reliability.md#mutation-tests)."
        page = [
            "# Mutation tests",
            "",
            f"By `python -m tools.torture.mutants`, {date.today()}. {machine()}",
            "",
            *rows,
            "",
            behind,
            "",
        ]
        Path("docs/torture").mkdir(exist_ok=True)
        Path("docs/torture/mutants.md").write_text("\n".join(page))


async def _torment(mutation: str, storage: str) -> tuple[str, str]:
    updates = _FIRST
    while True:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            aims = Aims(
                updates=updates,
                events=updates // 100,
                seconds=120,
                pause=0.2,
                tail=50,
                mutation=f"tools.torture.mutations:{mutation}",
            )
            result = await run(storage, Path(folder), aims, _SEED)
        if result.verdict.faults or result.hangs:
            events = sum(result.verdict.events.values())
            return f"{result.verdict.updates:,} updates, {events:,} events", _first_fault(result)
        updates *= 4
        if updates > _LAST:
            return "–", f"not by this campaign: {result.verdict.updates:,} updates went well"


def _first_fault(result: Result) -> str:
    wrong = [*result.verdict.faults, *result.hangs]
    return f"{len(wrong):,} faults, such as: {' '.join(wrong[0].split())[:160]}".replace("|", "/")


if __name__ == "__main__":
    main()
