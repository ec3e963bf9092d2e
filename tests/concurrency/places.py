"""Where the processes of a test can keep what they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Place(NamedTuple):
    """A storage that several processes can share."""

    url: str
    effort: float
    """The part of the updates that a test makes here; less than 1 where each costs much."""
    lease: float = 1.5
    """Seconds of a short lease."""


class Kind(NamedTuple):
    module: str
    url: Callable[[pytest.FixtureRequest], str]
    effort: float = 1.0
    lease: float = 1.5


def _in_folder(url: str) -> Callable[[pytest.FixtureRequest], str]:
    def make(request: pytest.FixtureRequest) -> str:
        folder: Path = request.getfixturevalue("tmp_path")
        return url.format(folder)

    return make


def _of_server(fixture: str) -> Callable[[pytest.FixtureRequest], str]:
    return lambda request: request.getfixturevalue(fixture).url


KINDS = {
    "sqlite": Kind("sqlite", _in_folder("sqlite:///{}/bot.db")),
    "file": Kind("file", _in_folder("file://{}/sessions"), effort=0.1),
    "redis": Kind("redis", _of_server("redis_server"), effort=0.5),
    "redis-cluster": Kind("redis", _of_server("redis_cluster"), effort=0.25),
    "postgresql": Kind("postgres", _of_server("postgres_server"), effort=0.25),
    "mongodb": Kind("mongo", _of_server("mongo_server"), effort=0.25),
    "nats": Kind("nats", _of_server("nats_server"), effort=0.1, lease=3.0),
}
