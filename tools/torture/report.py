"""The results of campaigns as a table, and raw."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tools.torture.campaign import Result
from tools.torture.places import PLACES
from tools.torture.verdict import Verdict

_MOST_SHOWN = 20


def write(results: Sequence[Result], folder: Path) -> None:
    """Keep the raw results, one JSON file a storage, and a table of all that lie there."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        raw = msgspec.json.format(msgspec.json.encode(result), indent=2)
        (folder / f"{result.storage}.json").write_bytes(raw + b"\n")
    paths = [folder / f"{name}.json" for name in PLACES]
    kept = [msgspec.json.decode(path.read_bytes(), type=Result) for path in paths if path.exists()]
    (folder / "README.md").write_text(page(kept))


def write_again(storage: str, verdict: Verdict, folder: Path) -> None:
    """Put a later verdict on the same history into what was kept of its campaign."""
    kept = msgspec.json.decode((folder / f"{storage}.json").read_bytes(), type=Result)
    write([msgspec.structs.replace(kept, verdict=verdict)], folder)


def page(results: Sequence[Result]) -> str:
    """All results, for people."""
    return "\n".join(
        [
            "# Campaigns",
            "",
            f"By `python -m tools.torture`. {machine()} What the columns mean: [Reliability](../reliability.md).",
            "",
            *table(results),
            "",
            *(line for result in results for line in details(result)),
        ]
    )


def table(results: Sequence[Result]) -> list[str]:
    """One line a storage."""
    head = [
        "storage", "events", "updates", "attempts", "violations", "hangs", "other failures",
        "free after a kill", "the same, all else quiet", "lease", "minutes", "day", "seed",
    ]  # fmt: skip
    rows = [
        [
            result.storage,
            f"{sum(result.verdict.events.values()):,}",
            f"{result.verdict.updates:,}",
            f"{result.verdict.attempts:,}",
            str(len(result.verdict.faults)),
            str(len(result.hangs)),
            str(len(result.failures)),
            _after(result.verdict.blocked.longest_after_kill, result.verdict.blocked.after_kills),
            _after(result.verdict.blocked.longest_after_quiet_kill, result.verdict.blocked.quiet_kills),
            f"{result.lease:g} s",
            f"{result.seconds / 60:.1f}",
            result.day,
            str(result.seed),
        ]
        for result in results
    ]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def details(result: Result) -> list[str]:
    """What happened, what the callers saw, and what is wrong."""
    verdict = result.verdict
    wrong = [*result.failures, *result.hangs, *verdict.faults]
    blocked, stale = verdict.blocked, verdict.stale_by_clocks
    disk = "" if result.disk_filled else " No disk was filled."
    return [
        f"## {result.storage}",
        "",
        f"{result.workers} workers, {verdict.keys:,} keys. {result.promise[:1].upper()}{result.promise[1:]}.{disk} "
        f"The longest wait for a key that no update got meanwhile: {blocked.longest:.1f} s; "
        f"at most {blocked.most:.1f} s for 99 % of the keys, and {blocked.median:.1f} s for half of them.",
        *(
            [f"While a clock was off, {stale:,} handlers were given an old state; none of them changed anything."]
            * (stale > 0)
        ),
        "",
        _row(["event", "times"]),
        _row(["---", "---"]),
        *(_row([name, f"{times:,}"]) for name, times in verdict.events.items()),
        "",
        _row(["what the caller saw", "times"]),
        _row(["---", "---"]),
        *(_row([outcome, f"{times:,}"]) for outcome, times in verdict.outcomes.items()),
        "",
        *(f"- {' '.join(each.split())[:300]}" for each in wrong[:_MOST_SHOWN]),
        *([f"- and {len(wrong) - _MOST_SHOWN} more"] if len(wrong) > _MOST_SHOWN else []),
        *([""] if wrong else []),
    ]


def machine() -> str:
    """Where it ran."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores."


def _after(seconds: float, kills: int) -> str:
    return f"{seconds:.2f} s ({kills:,} keys)" if kills else "–"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
