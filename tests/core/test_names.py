"""Section 2 of the contract: the public names, what an import brings along, `open_storage`."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import chatsession
from chatsession import MemoryStorage, SessionManager, StorageError, open_storage
from chatsession.storages.sqlite import SQLiteStorage

CONTRACT = {
    "SessionManager",
    "Session",
    "session",
    "lazy_session",
    "multi_session",
    "SessionOptions",
    "SessionFlavor",
    "LazySessionFlavor",
    "StorageAdapter",
    "Storage",
    "open_storage",
    "MemoryStorage",
    "per_chat",
    "per_user",
    "per_user_in_chat",
    "per_topic",
    "SessionError",
    "SessionKeyError",
    "SessionConflictError",
    "SessionLockTimeoutError",
    "SessionClosedError",
    "SessionEncodeError",
    "SessionDecodeError",
    "SessionTooLargeError",
    "SessionMigrationError",
    "StorageError",
    "StorageUnavailableError",
}
BESIDE = {
    *("Codec", "JsonCodec", "LazySession", "SessionAttribute", "SessionGroup"),
    *("SessionActionError", "SessionUnsentError"),
    *("SessionEvent", "log_sessions"),
    *("RewriteReport", "SessionDecryptError", "generate_encryption_key", "enhance_storage"),
}

FOREIGN = ["aiogram", "redis", "asyncpg", "nats", "pydantic", "attrs", "attr", "sqlite3", "telegram", "telebot"]
EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_all_is_exactly_the_names_of_the_contract_and_those_beside_it() -> None:
    assert set(chatsession.__all__) == CONTRACT | BESIDE
    assert len(chatsession.__all__) == len(set(chatsession.__all__))


def test_every_public_name_is_there_and_documented() -> None:
    for name in chatsession.__all__:
        assert getattr(chatsession, name).__doc__, name


def test_nothing_else_is_public() -> None:
    public = {name for name in vars(chatsession) if not name.startswith("_")}
    modules = {name for name in public if type(getattr(chatsession, name)) is type(sys)}
    assert public - modules == set(chatsession.__all__)


def test_the_package_tells_that_it_is_typed() -> None:
    assert (Path(chatsession.__file__).parent / "py.typed").exists()


def python(code: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    ended = subprocess.run(  # without coverage, which imports sqlite3
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_importing_chatsession_imports_no_driver_and_no_framework() -> None:
    assert python(f"import chatsession, sys; print([name for name in {FOREIGN!r} if name in sys.modules])") == "[]\n"


@pytest.mark.parametrize(
    ("use", "missing", "extra"),
    [
        ("chatsession.open_storage('redis://127.0.0.1')", "redis", "redis"),
        ("chatsession.open_storage('rediss://127.0.0.1')", "redis", "redis"),
        ("chatsession.open_storage('postgresql://127.0.0.1/x')", "asyncpg", "postgres"),
        ("chatsession.open_storage('nats://127.0.0.1')", "nats", "nats"),
        ("chatsession.open_storage('mongodb://127.0.0.1/x')", "pymongo", "mongo"),
        ("import chatsession.integrations.aiogram", "aiogram", "aiogram"),
    ],
)
def test_a_missing_extra_is_told_with_the_exact_command(use: str, missing: str, extra: str) -> None:
    assert extra in EXTRAS
    told = python(
        f"import sys; sys.modules[{missing!r}] = None\nimport chatsession\n"
        f"try:\n    {use}\nexcept ImportError as error:\n    print(error)"
    )
    assert f"pip install 'chatsession[{extra}]'" in told


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user:SECRET@host/db", "'mysql:'"),
        ("user:SECRET", "'user:'"),
        ("SECRET.db", "without a scheme"),
        ("", "without a scheme"),
        ("sqlite://SECRET@host/x", "sqlite:///relative.db"),
        ("sqlite:///", "sqlite:///relative.db"),
        ("sqlite://[::1", "malformed"),
        ("sqlite:///x.db?retry_for=SECRET", "numbers of seconds"),
        ("sqlite:///x.db?synchronous=off", "synchronous"),
        ("sqlite:///x.db?retry_for=0", "positive"),
        ("sqlite:///x.db?unknown=1", "unknown"),
        ("sqlite:///x.db?retry_for=1&retry_for=2", "twice"),
        ("sqlite:///:memory:", "memory:"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_tells_no_password(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught:
        open_storage(url)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(StorageError, match=message):
        SessionManager(int, storage=url)


@pytest.mark.parametrize(
    ("url", "storage"),
    [("memory:", MemoryStorage), ("MEMORY:", MemoryStorage), ("sqlite:///bot.db", SQLiteStorage)],
)
def test_open_storage(url: str, storage: Any) -> None:
    assert type(open_storage(url)) is storage


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///bot.db", "bot.db"),
        ("sqlite:bot.db", "bot.db"),
        ("sqlite:/srv/bot.db", "/srv/bot.db"),
        ("sqlite:////srv/bot.db", "/srv/bot.db"),
        ("sqlite:///a%20b%3Fc.db", "a b?c.db"),
        ("sqlite:///bot.db?synchronous=FULL&retry_for=2.5&sweep_interval=5", "bot.db"),
    ],
)
def test_sqlite_urls(url: str, path: str) -> None:
    storage = open_storage(url)
    assert isinstance(storage, SQLiteStorage)
    assert storage._path == Path(path)
    if "FULL" in url:
        assert (storage._synchronous, storage._retry_for, storage._sweep_interval) == ("full", 2.5, 5.0)
