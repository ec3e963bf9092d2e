"""The conformance suite for storages, to test a `Storage` of your own.

Needs `pip install 'chatsession[testing]'`. Subclass `StorageConformance` in a test file and define `make_storage`:

    from chatsession.testing.storages import MakeStorage, StorageConformance

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def make_storage(self, tmp_path) -> MakeStorage:
            return lambda: MyStorage(tmp_path / "data")

The function is called several times in a test; the storages it returns must share their data, like processes that
use the same server. Each test must begin with empty data. The fixture may be async, to start or clear a server.

If a storage takes a clock, the suite moves it instead of waiting:

        @pytest.fixture
        def clock(self) -> MovableClock:
            return MovableClock()

        @pytest.fixture
        def make_storage(self, tmp_path, clock) -> MakeStorage:
            return lambda: MyStorage(tmp_path / "data", clock=clock)

Without a clock, the suite really waits; `tick` is the shortest sensible time to live (see `StorageSuite` for all
settings).
"""

from __future__ import annotations

from chatsession.testing.conformance.expiry import ExpiryTests
from chatsession.testing.conformance.fencing import FencingTests
from chatsession.testing.conformance.forms import FormTests
from chatsession.testing.conformance.keys import KeyTests
from chatsession.testing.conformance.life import LifeTests
from chatsession.testing.conformance.locks import LockTests
from chatsession.testing.conformance.managers import ManagerTests
from chatsession.testing.conformance.model import ModelTests
from chatsession.testing.conformance.scans import ScanTests
from chatsession.testing.conformance.suite import MakeStorage, MovableClock, OpenAnother, StorageSuite, Time
from chatsession.testing.conformance.values import ValueTests
from chatsession.testing.conformance.versions import VersionTests

__all__ = ["MakeStorage", "MovableClock", "OpenAnother", "StorageConformance", "StorageSuite", "Time"]


class StorageConformance(
    ValueTests,
    VersionTests,
    ExpiryTests,
    ScanTests,
    KeyTests,
    LockTests,
    FencingTests,
    LifeTests,
    ManagerTests,
    FormTests,
    ModelTests,
):
    """The whole suite; a subclass named `Test…` overrides the fixture `make_storage`."""
