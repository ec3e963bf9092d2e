"""The whole program of each page of the documentation, run as a program, and talked to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from examples_aids import answers, running

from chatsession_playground.bot_api import BotApiServer

ROOT = Path(__file__).parents[2]
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MAIN = re.compile(r'^if __name__ == "__main__":\n(?:(?:    .*)?\n)+', re.MULTILINE)
MAKES_A_BOT = re.compile(r"\b(?:Dispatcher\(|Application\.builder\(|AsyncTeleBot\(|TelegramClient\(|Client\(\n)")
COMPARED = {"docs/migration-cheat-sheet.md"}
"""Pages that show bots of other libraries, too."""

TALKS = {
    "README.md": ("🍕", "Pizza number 1 for this chat!"),
    "docs/index.md": ("🍕", "Pizza number 1 for this chat!"),
    "docs/tutorial.md": (
        "🍕",
        "1 in your order. /pay when you are done.",
        "/pay",
        "1 pizzas: a link to pay is on its way.",
    ),
    "docs/recipes.md": (
        *("/order", "order 42", "/language", "de", "/language", "en", "/price", "9 €"),
        *("/menu", "Your language: en", "/ask one two", "/ask one two"),
    ),
    "docs/redelivery.md": ("pizza", "Ordered!"),
    "docs/frameworks/aiogram.md": ("🍕", "Pizza number 1 for this chat!", "/reset", "Forgotten."),
    "docs/frameworks/aiogram-fsm.md": ("hello", "Which size?", "30", "Size 30, stored. Where to?"),
    "docs/frameworks/python-telegram-bot.md": ("/pizza", "Pizza number 1 for this chat!"),
    "docs/frameworks/python-telegram-bot-persistence.md": (
        "/start",
        "What is your name?",
        "Ann",
        "Hello Ann, stored.",
    ),
    "docs/frameworks/pytelegrambotapi.md": ("🍕", "Pizza number 1 for this chat!", "/reset", "Forgotten."),
    "docs/frameworks/pytelegrambotapi-states.md": ("/order", "Which size?", "30", "Size 30, stored."),
}
"""What is said to the bot of a page, and what it answers."""

# These log in to Telegram itself. What they ask for there is left out, and the rest of their program runs.
OFFLINE = {
    "docs/frameworks/telethon.md": """
from telethon import TelegramClient

async def nothing(self, **_):
    pass

TelegramClient.start = TelegramClient.run_until_disconnected = nothing
""",
    "docs/frameworks/pyrogram.md": """
from pyrogram import Client
Client.run = lambda self: None
""",
}


def program(page: str) -> str:
    """All snippets of a page as a reader puts them into one file: what starts the bot stands at the end."""
    text = "".join(f"{snippet}\n\n" for snippet in SNIPPET.findall((ROOT / page).read_text()))
    return MAIN.sub("", text) + "\n".join(MAIN.findall(text))


def pages() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]


@pytest.mark.parametrize("page", TALKS)
async def test_the_bot_of_a_page_answers(page: str, api: BotApiServer, tmp_path: Path) -> None:
    (tmp_path / "bot.py").write_text(program(page))
    said, expected = TALKS[page][::2], TALKS[page][1::2]
    async with running(api, str(tmp_path / "bot.py"), tmp_path):
        assert await answers(api.private_chat(1), *said) == list(expected)


@pytest.mark.parametrize("page", OFFLINE)
def test_the_program_of_a_page_runs_up_to_its_login(page: str, tmp_path: Path) -> None:
    (tmp_path / "bot.py").write_text(OFFLINE[page] + program(page))
    ended = subprocess.run(
        [sys.executable, "bot.py"],
        cwd=tmp_path,
        env=os.environ | {"BOT_TOKEN": "42:TOKEN", "API_ID": "42", "API_HASH": "0" * 32},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_every_page_that_makes_a_bot_starts_it() -> None:
    making = {page for page in pages() if any(map(MAKES_A_BOT.search, SNIPPET.findall((ROOT / page).read_text())))}
    assert making - COMPARED <= {*TALKS, *OFFLINE}
