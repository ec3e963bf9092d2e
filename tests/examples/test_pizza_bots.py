"""The pizza bot, in one framework after the other: they read each other's sessions."""

from __future__ import annotations

import itertools
from pathlib import Path

from examples_aids import EXAMPLES, answers, running

from chatsession_playground.bot_api import BotApiServer

BOTS = sorted(path.name for path in EXAMPLES.glob("pizza_bot*.py") if "API_ID" not in path.read_text())
"""Those that speak the Bot API; the others log in to Telegram itself."""


async def test_a_team_moves_from_one_framework_to_the_next(api: BotApiServer, tmp_path: Path) -> None:
    ann, ben = api.private_chat(1), api.private_chat(2)
    numbers = itertools.count(1)
    for script in BOTS:
        async with running(api, script, tmp_path):
            expected = [f"Pizza number {next(numbers)} for this chat!" for _ in range(2)]
            assert await answers(ann, "🍕", "one more 🍕") == expected, script
            assert await answers(ben, "🍕", "/reset", "🍕", "/reset") == [
                *("Pizza number 1 for this chat!", "Forgotten.") * 2
            ], script


def test_there_are_several() -> None:
    assert len(BOTS) >= 3
