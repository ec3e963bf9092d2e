"""The reference: whatever a storage must do, memory does."""

from __future__ import annotations

import pytest

from chatsession import MemoryStorage
from chatsession.testing.storages import MakeStorage, MovableClock, StorageConformance


class TestMemoryStorage(StorageConformance):
    @pytest.fixture
    def clock(self) -> MovableClock:
        return MovableClock()

    @pytest.fixture
    def make_storage(self, clock: MovableClock) -> MakeStorage:
        return lambda: MemoryStorage(clock=clock)


class TestMemoryStorageInRealTime(StorageConformance):
    tick = 0.05

    @pytest.fixture
    def make_storage(self) -> MakeStorage:
        return MemoryStorage
