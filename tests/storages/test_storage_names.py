"""The back ends by their names in `chatsession.storages`, and the former names of their options."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import chatsession.storages
from chatsession import StorageError, open_storage
from chatsession.storages import (
    FileStorage,
    MemoryStorage,
    MongoStorage,
    NatsStorage,
    PostgresStorage,
    RedisStorage,
    SQLiteStorage,
    Storage,
)
from chatsession.storages.base import RENAMED_OPTIONS

NAMES = [
    "FileStorage",
    "MemoryStorage",
    "MongoStorage",
    "NatsStorage",
    "PostgresStorage",
    "RedisStorage",
    "SQLiteStorage",
]


@pytest.mark.parametrize("name", NAMES)
def test_each_back_end_is_offered_by_name(name: str) -> None:
    assert issubclass(getattr(chatsession.storages, name), Storage)
    assert name in dir(chatsession.storages)
    assert name in chatsession.storages.__all__


def test_no_driver_is_imported_before_its_use() -> None:
    drivers = "{'sqlite3', 'redis', 'asyncpg', 'nats', 'pymongo', 'bson'}"
    program = f"import sys, chatsession.storages; print({drivers} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="OracleStorage"):
        chatsession.storages.OracleStorage  # noqa: B018


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost?alone=true",
        "postgresql://localhost/db?alone=true",
        "nats://localhost?alone=true",
        "mongodb://localhost/bot?alone=true",
        "sqlite:///bot.db?busy_timeout=2",
        "sqlite:///bot.db?timeout=2",
        "redis://localhost?patience=2",
        "nats://localhost?patience=2",
    ],
)
def test_a_former_option_in_a_url_names_the_new_one(url: str) -> None:
    old = url.partition("?")[2].partition("=")[0]
    with pytest.raises(StorageError, match=f"'{old}'; it is named '{RENAMED_OPTIONS[old]}'"):
        open_storage(url)


@pytest.mark.parametrize("storage", [RedisStorage, PostgresStorage, NatsStorage, MongoStorage])
def test_a_former_keyword_names_the_new_one(storage: type[Storage]) -> None:
    with pytest.raises(TypeError, match="'alone'; it is named 'single_process'"):
        storage("redis://localhost", alone=True)  # type: ignore[call-arg]


def test_a_keyword_that_never_was_one_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        MemoryStorage(alone=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [0, -1, float("nan"), "2s", None, True])
@pytest.mark.parametrize("option", ["retry_for", "sweep_interval"])
@pytest.mark.parametrize("storage", [SQLiteStorage, FileStorage])
def test_a_bad_number_of_seconds_is_named(storage: type[Storage], option: str, value: object) -> None:
    with pytest.raises(StorageError, match=f"{option} is in seconds and must be positive"):
        storage("bot.db", **{option: value})  # type: ignore[call-arg]


@pytest.mark.parametrize("value", ["1d", True, 0, float("nan")])
def test_a_bad_time_to_live_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="time_to_live is in seconds and must be positive"):
        MemoryStorage(time_to_live=value)
