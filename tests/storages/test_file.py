"""Files: the shared suite, and what only files can do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatsession.storages.file import FileStorage
from chatsession.testing.storages import MakeStorage, MovableClock, StorageConformance


class TestFileStorage(StorageConformance):
    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_storage(self, tmp_path: Path, clock: MovableClock) -> MakeStorage:
        return lambda: FileStorage(tmp_path / "sessions", clock=clock)
