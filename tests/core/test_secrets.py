"""No `repr`, error or log line holds credentials or session data; what comes from outside is only ever data."""

from __future__ import annotations

import logging
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsession import (
    JsonCodec,
    MemoryStorage,
    SessionDecodeError,
    SessionError,
    SessionManager,
    SessionMigrationError,
    SessionOptions,
    generate_encryption_key,
    open_storage,
)
from chatsession.storages import Action, Change

PASSWORD = "h0rse-battery"
KEY = generate_encryption_key()

URLS = [
    f"redis://user:{PASSWORD}@127.0.0.1:1/0",
    f"rediss://:{PASSWORD}@127.0.0.1:1/0",
    f"redis+cluster://user:{PASSWORD}@127.0.0.1:1",
    f"redis+sentinel://user:{PASSWORD}@127.0.0.1:1/main",
    f"postgresql://user:{PASSWORD}@127.0.0.1:1/bot",
    f"nats://user:{PASSWORD}@127.0.0.1:1",
    f"nats://{PASSWORD}@127.0.0.1:1",
    f"mongodb://user:{PASSWORD}@127.0.0.1:1/bot?serverSelectionTimeoutMS=100",
]


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.split(":")[0])
def test_no_repr_shows_a_password(url: str) -> None:
    options = SessionOptions(initial=dict, storage=url, encryption_keys=[KEY])
    manager = SessionManager.from_options(options)
    for shown in (repr(options), repr(manager), repr(manager.storage), repr(manager.runtime), str(manager.storage)):
        assert PASSWORD not in shown
        assert KEY not in shown


@pytest.mark.parametrize("url", [f"redos://user:{PASSWORD}@host", f"redis://user:{PASSWORD}@host:port/x", "sqlite://"])
def test_no_error_of_a_wrong_url_shows_a_password(url: str) -> None:
    with pytest.raises(SessionError) as caught:
        open_storage(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


async def test_neither_errors_nor_logs_show_data(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    errors: list[str] = []
    stored = [
        b'{"count":"hunter2"}',
        b"hunter2",
        b'{"__d":{"count":"hunter2"},"v":9}',
        b"\x01ehunter2hunter2hunter2hunter2",
    ]
    with caplog.at_level(logging.DEBUG):
        for data in stored:
            await storage.commit_many([Change("chat", Action.PUT, data)])
            for on_decode_error in ("raise", "quarantine", "reset"):
                options: Any = {"migrations": {1: lambda old: old}, "on_decode_error": on_decode_error}
                async with SessionManager(dict[str, int], storage=storage, **options) as sessions:
                    try:
                        async with sessions.open("chat") as s:
                            s.data["count"] = "hunter2"  # type: ignore[assignment]
                    except SessionError as error:
                        errors.append("".join(traceback.format_exception(error)))
    assert len(errors) == 3 * len(stored)
    assert "hunter2" not in "".join(errors)
    assert caplog.records
    assert "hunter2" not in caplog.text


_manager = SessionManager(
    dict[str, int], storage="memory:", encryption_keys=[KEY], allow_unencrypted=True, migrations={1: lambda old: old}
)


@given(
    st.binary(max_size=200)
    | st.binary(max_size=80).map(lambda data: b"\x01e" + data)
    | st.binary().map(lambda data: b"\x01z" + data)
)
def test_whatever_lies_in_a_storage_gives_a_value_or_an_error_of_the_contract(data: bytes) -> None:
    plan = _manager.runtime
    try:
        opened = plan.serializer.unpack("chat", data)
        plan.serializer.loads("chat", data if opened is None else opened.data)
    except (SessionDecodeError, SessionMigrationError):
        pass


@pytest.mark.parametrize(
    "data",
    [b"[" * 1_000_000, b'{"a":' * 100_000, b" " * 50_000_000, b"9" * 1_000_000, b'{"__d":' * 100_000, b'"\\ud800"'],
    ids=["nested", "nested objects", "spaces", "a huge number", "envelopes", "half an emoji"],
)
def test_bombs_are_refused(data: bytes) -> None:
    for decode in (_manager.runtime.serializer.loads, _manager.runtime.serializer.unpack):
        with pytest.raises(SessionDecodeError) as caught:
            decode("chat", data)
        assert len(str(caught.value)) < 1000


@given(st.text())
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    for url in (
        text,
        f"sqlite:{quote(text)}?{quote(text)}",
        f"redis://{quote(text)}",
        f"postgresql://h/{quote(text)}?x",
    ):
        try:
            open_storage(url)
        except SessionError:
            pass
        except ImportError:
            pass


def test_the_codec_never_imports() -> None:
    decoded: object = JsonCodec(Any).decode(b'{"py/object":"os.system","__reduce__":["os.system",["true"]]}')
    assert decoded == {"py/object": "os.system", "__reduce__": ["os.system", ["true"]]}
