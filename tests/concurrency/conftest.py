"""Tests that ask for a place run on every storage that there is."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from places import KINDS, Place


@pytest.fixture(params=[name for name, kind in KINDS.items() if find_spec(f"chatsession.storages.{kind.module}")])
def place(request: pytest.FixtureRequest) -> Place:
    kind = KINDS[request.param]
    return Place(kind.url(request), kind.effort, kind.lease)
