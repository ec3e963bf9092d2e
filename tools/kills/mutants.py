"""The library, broken on purpose: the campaign must notice each of these."""

from __future__ import annotations

import asyncio
from typing import Any

from chatsession.integrations.polling.poller import Poller
from chatsession.integrations.polling.window import Window
from chatsession.unit_of_work.outbox import Outbox
from chatsession.unit_of_work.unit import UnitOfWork

MUTANTS = ("confirm before done", "actions before commit", "actions not stored")


def break_the_library(mutant: str) -> None:
    """Break it in one way; with an empty name, not at all."""
    if mutant == "confirm before done":
        window: Any = Window
        window.offset = property(_next)
        poller: Any = Poller
        poller._until_worth_asking = _at_once
    elif mutant == "actions before commit":
        unit: Any = UnitOfWork
        commit: Any = unit.commit

        async def sending_first(self: Any) -> None:
            if self.outbox is not None:
                await self.outbox.send()
            await commit(self)

        unit.commit = sending_first
    elif mutant == "actions not stored":
        outbox: Any = Outbox
        outbox.stored = property(_nothing)
    elif mutant:
        raise ValueError(f"there is no mutant {mutant!r}; there are {', '.join(MUTANTS)}")


def _next(window: Any) -> int:
    return window._next


async def _at_once(_: object) -> None:
    """The frameworks' own polling asks for more while updates are under way."""
    await asyncio.sleep(0)


def _nothing(_: object) -> tuple[()]:
    return ()
