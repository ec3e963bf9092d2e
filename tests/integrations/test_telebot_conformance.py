"""telebot's integration does what all integrations do."""

from __future__ import annotations

import pytest
from telebot_aids import TelebotDriver

from chatsession.testing.integrations import IntegrationConformance, MakeDriver


class TestTelebot(IntegrationConformance):
    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        return TelebotDriver
