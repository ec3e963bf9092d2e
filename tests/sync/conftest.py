"""Sessions without asyncio, on every storage; whatever a test does, the library's thread has ended afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.concurrency.places import KINDS


@pytest.fixture(params=list(KINDS))
def url(request: pytest.FixtureRequest) -> str:
    return KINDS[request.param].url(request)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bot.db"


@pytest.fixture(params=["memory", "sqlite"])
def near(request: pytest.FixtureRequest, sqlite: str) -> str:
    """A storage of this process alone, and one that other processes share."""
    return "memory:" if request.param == "memory" else sqlite


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # tests of abandoned event loops may have left some
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("chatsession") and thread not in before:
            thread.join(60)  # a storage's own may be at its last step
            assert not thread.is_alive(), f"left running: {thread.name}"
