"""Telethon's integration does what all integrations do."""

from __future__ import annotations

import pytest
from telethon_aids import TelethonDriver

from chatsession.testing.integrations import IntegrationConformance, MakeDriver


class TestTelethon(IntegrationConformance):
    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        return TelethonDriver
