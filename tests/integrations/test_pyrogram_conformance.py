"""kurigram's integration does what all integrations do."""

from __future__ import annotations

import pytest
from pyrogram_aids import PyrogramDriver

from chatsession.testing.integrations import IntegrationConformance, MakeDriver


class TestPyrogram(IntegrationConformance):
    @pytest.fixture
    def make_driver(self) -> MakeDriver:
        return PyrogramDriver
