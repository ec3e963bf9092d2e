"""The library, broken on purpose: the campaign must notice each of these."""

from __future__ import annotations

from chatsession.integrations.polling.window import Window
from chatsession.unit_of_work.outbox import Outbox
from chatsession.unit_of_work.unit import UnitOfWork

MUTANTS = ("confirm before done", "actions before commit", "actions not stored")


def break_the_library(mutant: str) -> None:
    """Break it in one way; with an empty name, not at all."""
    if mutant == "confirm before done":
        Window.offset = property(lambda self: self._next)  # type: ignore[assignment,method-assign] # that is the point
    elif mutant == "actions before commit":
        commit = UnitOfWork.commit

        async def sending_first(self: UnitOfWork[object]) -> None:
            if self.outbox is not None:
                await self.outbox.send()
            await commit(self)

        UnitOfWork.commit = sending_first  # type: ignore[method-assign] # that is the point
    elif mutant == "actions not stored":
        Outbox.stored = property(lambda self: ())  # type: ignore[assignment,method-assign] # that is the point
    elif mutant:
        raise ValueError(f"there is no mutant {mutant!r}; there are {', '.join(MUTANTS)}")
