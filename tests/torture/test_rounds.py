"""A short round of `make torture` on every storage, and one that must go red."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tools.torture import mutations, report
from tools.torture.__main__ import main
from tools.torture.campaign import Aims, Result, run
from tools.torture.places import PLACES
from tools.torture.verdict import Verdict

SHORT = Aims(
    updates=0,
    events=10,
    seconds=5,
    workers=2,
    in_flight=20,
    tail=50,
    pause=0.2,
    without=frozenset({"worker killed (SIGKILL), all else quiet", "failover", "disk full"}),
)
"""What takes long is left to long campaigns."""


@pytest.mark.parametrize("storage", PLACES)
async def test_a_short_round(storage: str, tmp_path: Path) -> None:
    result = await run(storage, tmp_path / storage, SHORT, seed=1)
    assert wrong(result) == []
    assert result.verdict.updates > 0
    assert sum(result.verdict.events.values()) > 0


@pytest.mark.parametrize("event", ["worker forked", "event loop replaced"])
async def test_forks_and_second_loops_lose_nothing(event: str, tmp_path: Path) -> None:
    aims = msgspec.structs.replace(SHORT, events=3, seconds=30, only=event)
    result = await run("sqlite", tmp_path / "sqlite", aims, seed=1)
    assert wrong(result) == []
    assert set(result.verdict.events) == {event}
    if event == "worker forked":
        assert list((tmp_path / "sqlite").glob("w*-f*.jsonl"))


async def test_a_round_without_locks_and_versions_goes_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aims = Aims(
        updates=500,
        events=0,
        seconds=60,
        workers=2,
        in_flight=20,
        tail=5,
        pause=60,
        mutation="tools.torture.mutations:no_leases_no_versions",
    )
    result = await run("sqlite", tmp_path / "sqlite", aims, seed=1)
    assert any("is lost" in fault for fault in result.verdict.faults)
    assert not result.good
    assert "is lost" in "\n".join(report.details(result))

    monkeypatch.setattr(sys, "argv", ["torture", "--check", str(tmp_path / "sqlite")])
    assert main() == 1
    assert "is lost" in capsys.readouterr().out


GUARDS = [name for name in vars(mutations) if name.startswith("no_")]

APPLY = """
import asyncio, sys
from chatsession import SessionManager
from tools.histories.counting import Counter
from tools.torture import mutations

async def main() -> None:
    getattr(mutations, sys.argv[1])(SessionManager(Counter, storage="memory:"))

asyncio.run(main())
"""


@pytest.mark.parametrize("name", GUARDS)
def test_a_mutation_finds_the_guard_that_it_takes_out(name: str) -> None:
    subprocess.run([sys.executable, "-c", APPLY, name], check=True)


def test_reports_are_kept_side_by_side(tmp_path: Path) -> None:
    first, second = result_of("memory"), result_of("redis")
    report.write([first], tmp_path)
    report.write([second], tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| memory | 0 | 0 |" in page
    assert "| redis | 0 | 0 |" in page
    assert "it was lost" in page


def result_of(storage: str) -> Result:
    return Result(
        storage=storage,
        promise="none",
        day="2026-11-29",
        seed=1,
        seconds=60,
        verdict=Verdict(faults=["it was lost"]),
        hangs=[],
        failures=[],
        lease=2,
        workers=1,
        disk_filled=False,
    )


def wrong(result: Result) -> list[str]:
    return [*result.failures, *result.hangs, *result.verdict.faults[:20]]
