"""Messages to a bot that is killed at random moments, and what the server's log says of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chatsession import SessionManager
from chatsession_playground.bot_api import BotApiServer
from tools.kills.bot import Tally

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Plan:
    """One campaign.

    Attributes:
        framework: `"aiogram"`, `"ptb"`, `"telebot"`, or `"telebot-threads"`: the synchronous `TeleBot`.
        way: `"polling"` or `"webhook"`.
        storage: a URL.
        messages: how many are sent in all.
        chats: how many chats they come from.
        kills: how often the bot is killed.
        seed: of the moments.
        mutant: what is broken on purpose.
        patience: seconds within which everything must be answered.
    """

    framework: str
    way: str
    storage: str
    messages: int = 1500
    chats: int = 20
    kills: int = 10
    seed: int = 0
    mutant: str = ""
    patience: float = 600.0


@dataclass
class Verdict:
    """What came of a campaign.

    Attributes:
        faults: what a user of the bot could complain about; empty: nothing.
        again: how many answers came more than once, each excused by a kill.
        kills: how often the bot was killed.
    """

    faults: list[str] = field(default_factory=list[str])
    again: int = 0
    kills: int = 0


class Campaign:
    """Runs one plan."""

    def __init__(self, plan: Plan, api: BotApiServer) -> None:
        self._plan = plan
        self._api = api
        self._random = random.Random(plan.seed)
        self._kills = 0
        self._excused: Counter[str] = Counter()
        """By the text of a message: kills at which it was answered and not confirmed."""

    async def run(self) -> Verdict:
        """Send everything, kill the bot now and then, and judge."""
        plan = self._plan
        chats = [self._api.private_chat(1001 + number) for number in range(plan.chats)]
        for number in range(plan.messages):
            chats[number % plan.chats].send(f"m{number}")
        with contextlib.suppress(TimeoutError):  # the verdict tells what is missing
            async with asyncio.timeout(plan.patience):
                for _ in range(plan.kills):
                    await self._live(self._random.randint(1, max(plan.messages // (plan.kills + 1), 2)))
                await self._live(None)
        return await self._verdict()

    async def _live(self, calls: int | None) -> None:
        """Let the bot live until it has made so many calls, or until everything is confirmed, and kill it then."""
        plan, before = self._plan, len(self._api.calls)
        bot = await start_bot(plan, self._api)
        try:
            while self._api.pending and (calls is None or len(self._api.calls) < before + calls):
                if bot.returncode is not None:
                    raise RuntimeError(f"the bot ended by itself, with {bot.returncode}")
                await asyncio.sleep(0.002)
            if calls is not None:
                await asyncio.sleep(self._random.random() * 0.03)
        finally:
            if bot.returncode is None:
                bot.kill()
                await bot.wait()
        self._kills += bool(self._api.pending)
        for _ in range(100):  # looks at the network, in which there is what it sent before it died
            await asyncio.sleep(0.001)
        answered = self.answers()
        self._excused.update(text for update in self._api.pending if (text := str(update.payload["text"])) in answered)

    def answers(self) -> dict[str, list[str]]:
        """By the text of a message, the runs of its handler that were answered."""
        found: dict[str, list[str]] = {}
        for call in self._api.calls:
            if call.method == "sendMessage" and call.error is None:
                text, run = str(call.params["text"]).split()
                found.setdefault(text, []).append(run)
        return found

    async def _verdict(self) -> Verdict:
        plan, answers, verdict = self._plan, self.answers(), Verdict(kills=self._kills)
        async with SessionManager(Tally, storage=plan.storage, deduplicate=100) as sessions:
            tallies = {key: tally async for key, tally in sessions.entries()}
        committed: dict[str, str] = {}
        for number in range(plan.chats):
            tally = tallies.get(str(1001 + number), Tally())
            expected = len(range(number, plan.messages, plan.chats))
            if tally.count != expected:
                verdict.faults.append(f"chat {number} counts {tally.count} of {expected} messages")
            committed.update(tally.runs)
        for number in range(plan.messages):
            text = f"m{number}"
            runs = answers.get(text, [])
            if not runs:
                verdict.faults.append(f"{text} was not answered")
            if any(run != committed.get(text) for run in runs):
                verdict.faults.append(f"{text} was answered for a run that was rolled back")
            if len(runs) - 1 > self._excused[text]:
                verdict.faults.append(f"{text} was answered {len(runs)} times, with {self._excused[text]} excuses")
            verdict.again += max(len(runs) - 1, 0)
        return verdict


async def start_bot(plan: Plan, api: BotApiServer, *options: str) -> asyncio.subprocess.Process:
    """Start the bot of a plan as a process."""
    command = [sys.executable, "-m", "tools.kills.bot", plan.framework, plan.way, plan.storage, api.url, api.token]
    return await asyncio.create_subprocess_exec(*command, plan.mutant, *options, cwd=ROOT)


async def run(plan: Plan) -> Verdict:
    """Run one plan against a Bot API server of its own."""
    async with BotApiServer() as api:
        return await Campaign(plan, api).run()
