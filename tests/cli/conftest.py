"""The command line, run in this process and in others."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_aids import Shell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISUAL", raising=False)
    return Shell(f"sqlite:///{tmp_path}/bot.db")
