"""The moderator: one session for each member of each group, made only for those who need one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from examples_aids import PATIENCE, answer, running

from chatsession import SessionManager
from chatsession_playground.bot_api import BotApiServer, Group, User

ADMIN, BEN, EVE = User(1, "Ann"), User(2, "Ben"), User(3, "Eve")
LINK = "cheap pills: https://pills.example"


@dataclass
class Member:
    warnings: int = 0
    deleted: int = 0


async def says(group: Group, user: User, text: str = LINK) -> str:
    group.send(text, user=user)
    return await answer(group)


async def test_warnings_deletions_and_forgiveness(api: BotApiServer, tmp_path: Path) -> None:
    cats, dogs = api.group(-11, "Cats", user=ADMIN), api.group(-12, "Dogs", user=ADMIN)
    async with running(api, "moderation_bot.py", tmp_path, ADMIN="1"):
        for group in (cats, dogs):  # each has its own members
            warnings = [await says(group, EVE) for _ in range(3)]
            assert warnings == [f"No links here, please. Warning {n} of 3." for n in (1, 2, 3)]
        for n in range(50):
            cats.send(f"meow {n}", user=User(100 + n, "Cat"))
        last = cats.send(LINK, user=EVE)
        deleted = await api.next_call("deleteMessage", timeout=PATIENCE)
        assert deleted.params["message_id"] == last.message_id

        bad = cats.send("I am sorry", user=EVE)
        cats.send("/forgive", user=BEN, reply_to=bad.message_id)  # who is nobody
        cats.send("/forgive", user=ADMIN, reply_to=bad.message_id)
        assert await answer(cats) == "Eve is forgiven."
        assert await says(cats, EVE) == "No links here, please. Warning 1 of 3."

    async with SessionManager(Member, storage=f"sqlite:///{tmp_path / 'moderation.db'}") as members:
        found = {key: member async for key, member in members.entries()}
        assert found == {"-11:3": Member(1), "-12:3": Member(3)}, "of all others nothing was stored"


async def test_a_flood_of_links_is_counted_exactly(api: BotApiServer, tmp_path: Path) -> None:
    group = api.group(-11, user=ADMIN)
    async with running(api, "moderation_bot.py", tmp_path, ADMIN="1"):
        for n in range(40):
            group.send(LINK, user=(BEN, EVE)[n % 2])
        await asyncio.gather(*(group.receive(timeout=PATIENCE) for _ in range(6)))
        for _ in range(34):
            assert (await api.next_call("deleteMessage", timeout=PATIENCE)).error is None
    async with SessionManager(Member, storage=f"sqlite:///{tmp_path / 'moderation.db'}") as members:
        assert {key: member async for key, member in members.entries()} == {
            "-11:2": Member(3, 17),
            "-11:3": Member(3, 17),
        }
