"""How tests wait for something without pauses that they would notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chatsession.integrations.polling import poller
from chatsession.unit_of_work import outbox


async def until(condition: Callable[[], object]) -> None:
    """Let the others run until something has happened."""
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.001)


def retry_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing pause for long before it is tried again."""
    monkeypatch.setattr(poller, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(poller, "FIRST_BACK_OFF", 0.01)
    monkeypatch.setattr(outbox, "PAUSES", [0.01, 0.01])
