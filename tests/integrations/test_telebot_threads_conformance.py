"""The integration of the synchronous TeleBot does what all integrations do."""

from __future__ import annotations

import pytest
from telebot_threads_aids import TeleBotDriver

from chatsession.testing.integrations import IntegrationConformance, MakeDriver


class TestTeleBot(IntegrationConformance):
    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        return TeleBotDriver
