"""SQLite passes the whole conformance suite; what only SQLite does is tested in tests/core."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatsession.storages.sqlite import SQLiteStorage
from chatsession.testing.storages import MakeStorage, MovableClock, StorageConformance


class TestSQLiteStorage(StorageConformance):
    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_storage(self, tmp_path: Path, clock: MovableClock) -> MakeStorage:
        return lambda: SQLiteStorage(tmp_path / "bot.db", clock=clock)
