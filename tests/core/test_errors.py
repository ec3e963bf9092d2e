"""Section 2: every error names the key, never the data, says what happened and what to do."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from core_aids import Access, Way, look

import chatsession
from chatsession import (
    MemoryStorage,
    SessionConflictError,
    SessionDecodeError,
    SessionEncodeError,
    SessionError,
    SessionLockTimeoutError,
    SessionManager,
    StorageError,
    StorageUnavailableError,
)
from chatsession.storages import Change, Record

ERRORS = [value for value in vars(chatsession).values() if isinstance(value, type) and issubclass(value, Exception)]


def test_the_hierarchy() -> None:
    assert {error.__name__ for error in ERRORS} == {
        "SessionError",
        "SessionActionError",
        "SessionUnsentError",
        "SessionKeyError",
        "SessionConflictError",
        "SessionLockTimeoutError",
        "SessionClosedError",
        "SessionEncodeError",
        "SessionDecodeError",
        "SessionDecryptError",
        "SessionTooLargeError",
        "SessionMigrationError",
        "StorageError",
        "StorageUnavailableError",
    }
    assert all(issubclass(error, SessionError) for error in ERRORS)
    assert issubclass(StorageUnavailableError, StorageError)


def test_waiting_too_long_is_also_a_timeout() -> None:
    assert issubclass(SessionLockTimeoutError, TimeoutError)


def test_an_unreachable_storage_is_also_a_connection_error() -> None:
    assert issubclass(StorageUnavailableError, ConnectionError)


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_names_the_key(error: type[SessionError]) -> None:
    made = error("it failed", key="chat\n1")
    assert str(made) == "session 'chat\\n1': it failed"
    assert made.key == "chat\n1"
    assert error("it failed").key is None


@pytest.mark.parametrize("error", ERRORS)
def test_errors_survive_copy_and_pickle(error: type[SessionError]) -> None:
    made = error("it failed", key="chat")
    for other in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert (type(other), str(other), other.key) == (error, str(made), "chat")


def test_long_keys_are_shortened() -> None:
    message = str(SessionError("it failed", key="k" * 1_000_000))
    assert len(message) < 200
    assert "1000000 characters" in message


@pytest.mark.parametrize("key", ["k" * 10_000, "\0\x1b[31m"])
async def test_long_and_odd_keys_stay_short_and_harmless_everywhere(
    way: Way, storage: Any, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    await storage.commit_many([Change(key, chatsession.storages.Action.PUT, b'"SECRET"')])
    counters = SessionManager(int, storage=storage, on_decode_error="quarantine")
    with pytest.raises(SessionDecodeError) as caught:
        await counters.get(key)
    await way(counters, key, look)
    for told in (str(caught.value), caplog.text):
        assert len(told) < 1_000
        assert "\x1b" not in told
        assert "\0" not in told
        assert "SECRET" not in told


async def test_no_traceback_prints_data(way: Way, storage: Any) -> None:
    secret = "".join(["S", "ECRET"])  # in pieces, so that the source lines of a traceback do not hold it

    async def unencodable(access: Access) -> None:
        access.set({"a": [secret, {"b\ud800": secret}]})

    async def misfit(access: Access) -> None:
        access.set({"a": secret})

    counters: Any = SessionManager(type=dict[str, int], storage=storage)
    for handler in (unencodable, misfit):
        with pytest.raises(SessionEncodeError) as caught:
            await way(counters, "chat", handler)
        assert secret not in "".join(traceback.format_exception(caught.value))
    await storage.commit_many([Change("bad", chatsession.storages.Action.PUT, f'{{"a":"{secret}"}}'.encode())])
    with pytest.raises(SessionDecodeError) as misfitting:
        await way(counters, "bad", look)
    assert secret not in "".join(traceback.format_exception(misfitting.value))


async def test_conflicts_say_what_to_do(storage: Any) -> None:
    counters = SessionManager(int, storage=storage, concurrency="optimistic")
    with pytest.raises(SessionConflictError, match=r"somebody else changed it .* handle the update again"):
        async with counters.open("chat") as s:
            s.data = 1
            await counters.update("chat", lambda count: count + 5)


async def test_a_storage_that_leaves_out_an_answer_is_told_so() -> None:
    class Forgetful(MemoryStorage):
        async def read_many(self, keys: Sequence[str]) -> Sequence[Record | None]:
            return (await super().read_many(keys))[1:]

    async with SessionManager(int, storage=Forgetful()) as sessions:
        with pytest.raises(RuntimeError, match="did not answer every item"):
            await sessions.get("42")


async def test_a_session_shows_its_key_and_not_its_data(storage: Any) -> None:
    texts = SessionManager(str, storage=storage)
    async with texts.open("chat") as s:
        s.data = "SECRET"
        assert repr(s) == "<Session 'chat', open>"
    assert "SECRET" not in f"{texts!r}{storage!r}"
