"""Bots that are killed with messages under way: every message is counted once, and answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.kills.bot import FRAMEWORKS
from tools.kills.campaign import Plan, run
from tools.kills.mutants import MUTANTS


def plan(folder: Path, framework: str, way: str, **options: object) -> Plan:
    url = f"sqlite:///{folder}/bot.db"
    return Plan(framework, way, url, **{"messages": 60, "chats": 5, "kills": 2, "seed": 1, **options})  # type: ignore[arg-type] # as Plan has them


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("way", ["polling", "webhook"])
async def test_each_message_is_counted_once_and_answered(tmp_path: Path, framework: str, way: str) -> None:
    verdict = await run(plan(tmp_path, framework, way))
    assert verdict.faults == []
    assert verdict.kills >= 1


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_library_that_is_broken_is_noticed(tmp_path: Path, mutant: str) -> None:
    """Or the test above would prove nothing."""
    broken = plan(tmp_path, "telebot", "polling", messages=150, chats=20, kills=3, mutant=mutant)
    assert (await run(broken)).faults != []
