"""The conformance suite of integrations: the same scenarios in every framework, through its real dispatcher.

Needs `pip install 'chatsession[testing]'` and pytest-asyncio in mode `auto`. To add a framework, write a driver
and subclass `IntegrationConformance` in a test file:

    from chatsession.testing.integrations import FrameworkDriver, IntegrationConformance, MakeDriver

    class MyDriver(FrameworkDriver):
        def setup(self, sessions, *, lazy=False): ...
        def handle(self, handler, *, wants): ...
        async def start(self): ...
        async def feed(self, incoming): ...
        async def stop(self): ...

    class TestMyFramework(IntegrationConformance):
        @pytest.fixture
        def make_driver(self) -> MakeDriver:
            return MyDriver

Updates are described independently of frameworks (`Incoming`); `Incoming.bot_api()` is their Bot API JSON. The
handlers of the suite get a `NeutralContext`, which the driver makes from the arguments of its framework's handler:

    async def handler(message, ctx):                    # as the users of this framework write it
        await neutral(NeutralContext(message.text, {"session": ctx}))

Each scenario runs with sessions in memory and in an SQLite file.
"""

from __future__ import annotations

from chatsession.testing.integration_suite.again import AgainTests
from chatsession.testing.integration_suite.bad_input import BadInputTests
from chatsession.testing.integration_suite.crowds import CrowdTests
from chatsession.testing.integration_suite.driver import (
    FrameworkDriver,
    MakeDriver,
    NeutralContext,
    NeutralHandler,
    NeutralSession,
    SessionAccess,
)
from chatsession.testing.integration_suite.ending import EndingTests
from chatsession.testing.integration_suite.incoming import Incoming, Kind
from chatsession.testing.integration_suite.loading import LoadingTests
from chatsession.testing.integration_suite.moving import MovingTests
from chatsession.testing.integration_suite.sending import SendingTests
from chatsession.testing.integration_suite.suite import IntegrationSuite
from chatsession.testing.integration_suite.together import TogetherTests

__all__ = [
    "FrameworkDriver",
    "Incoming",
    "IntegrationConformance",
    "IntegrationSuite",
    "Kind",
    "MakeDriver",
    "NeutralContext",
    "NeutralHandler",
    "NeutralSession",
    "SessionAccess",
]


class IntegrationConformance(
    LoadingTests, EndingTests, TogetherTests, CrowdTests, BadInputTests, AgainTests, MovingTests, SendingTests
):
    """The whole suite; a subclass named `Test…` overrides the fixture `make_driver`."""
