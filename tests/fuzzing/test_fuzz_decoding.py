"""Whatever lies in a storage gives a value, or an error of the contract that shows nothing of it."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import pytest
import zstandard
from fuzz_aids import damaged, envelopes, fuzzed, json_bytes, json_values, numbers, texts
from hypothesis import strategies as st

from chatsession import (
    JsonCodec,
    MemoryStorage,
    SessionDecodeError,
    SessionEncodeError,
    SessionManager,
    SessionMigrationError,
    generate_encryption_key,
)
from chatsession.serialization.codec import CodecError
from chatsession.serialization.compression import COMPRESSED, decompress
from chatsession.serialization.encryption import SEALED
from chatsession.serialization.envelope import unwrap, wrap
from chatsession.storages import Action, Change, Record

KEY, OTHER_KEY = "a" * 43 + "=", "b" * 43 + "="
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "migrated": {"migrations": {1: lambda old: old, 2.5: lambda old: old}},
    "compressed": {"compression": 10},
    "encrypted": {"encryption_keys": [KEY]},
    "remembering": {"deduplicate": 3},
    "all": {
        "migrations": {1: lambda old: old},
        "compression": 10,
        "encryption_keys": [KEY, OTHER_KEY],
        "allow_unencrypted": True,
        "deduplicate": 3,
        "ttl": 60,
    },
}
MARK = "hunter2"


@dataclass
class Player:
    name: str = ""
    coins: int = 0
    parts: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    since: datetime | None = None
    inner: Player | None = None


TYPES: list[Any] = [Any, Player, dict[str, int], list[str] | int | None]


def managers(**more: Any) -> list[SessionManager[Any]]:
    return [
        SessionManager(type=kind, storage="memory:", **options, **more)
        for kind in TYPES
        for options in OPTIONS.values()
    ]


_managers = managers()
_sealed = [
    manager.runtime.serializer.pack("chat", data, None, 5)
    for manager in _managers
    for data in (b'{"name":"a","coins":7}', b"[1.5]", b'["pizza","pizza","pizza","pizza"]')
]
stored = damaged(
    st.binary(max_size=60)
    | json_bytes
    | envelopes
    | st.sampled_from(_sealed)
    | st.tuples(st.sampled_from([SEALED, COMPRESSED, b"\x01h\0\0", b"\x01"]), st.binary(max_size=60)).map(b"".join)
    | json_bytes.map(lambda data: COMPRESSED + zstandard.compress(data))
    | envelopes.map(lambda data: COMPRESSED + zstandard.compress(data))
)


@fuzzed(stored, examples=150)
def test_stored_bytes_give_a_value_or_an_error_of_the_contract(data: bytes) -> None:
    for manager in _managers:
        plan = manager.runtime
        try:
            opened = plan.serializer.unpack("chat", data)
            if opened is None or not opened.empty:
                plan.serializer.loads("chat", data if opened is None else opened.data)
            if opened is not None:  # what is beside the data can be stored again
                plan.serializer.pack("chat", b"1", opened, 7)
        except (SessionDecodeError, SessionMigrationError, SessionEncodeError):
            pass
        if plan.serializer.pipeline is not None:
            plan.serializer.pipeline.is_empty("chat", data)


@fuzzed(st.integers(0, 10_000), st.integers(0, 31), examples=30)
def test_no_error_shows_what_is_stored(at: int, change: int) -> None:
    shown: list[str] = []
    for template in (b'{"name":%b}', b"[%b]", b'{"__d":%b,"v":9}', b'{"__d":{"name":%b}}', b"%b", b'{"coins":%b}'):
        text = bytearray(template % f'"{MARK}"'.encode())
        text[at % len(text)] ^= change
        for manager in _managers:
            try:
                opened = manager.runtime.serializer.unpack("chat", bytes(text))
                manager.runtime.serializer.loads("chat", bytes(text) if opened is None else opened.data)
            except Exception as error:
                shown.append("".join(traceback.format_exception(error)))
    assert MARK not in "".join(shown)


@fuzzed(json_values.filter(lambda value: value is not None), texts)
def test_what_is_stored_comes_back_and_nothing_else(value: Any, key: str) -> None:
    for options in OPTIONS.values():
        plan = SessionManager(type=Any, storage="memory:", **options).runtime
        try:
            data = JsonCodec[Any](Any).encode(value)
            if JsonCodec[Any](Any).decode(data) != value:
                continue  # -0 as an int
        except CodecError:  # an int of hundreds of digits, or none at all
            continue
        sealed = plan.serializer.pack(key, data, None, 5)
        opened = plan.serializer.unpack(key, sealed)
        assert JsonCodec[Any](Any).decode(sealed if opened is None else opened.data) == value
        if opened is not None and data != b"null":
            assert opened.updates == (5,)
            assert not opened.empty


@fuzzed(
    json_bytes,
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.integers(0, 9) | st.floats(0, 9),
            "expires": st.integers(0, 1 << 50),
            "updates": st.lists(st.integers(-(1 << 60), 1 << 60) | texts, max_size=3),
            "moved_to": texts,
            "moving_from": texts,
        },
    ),
)
def test_an_envelope_holds_what_was_put_in(data: bytes, beside: dict[str, Any]) -> None:
    for json in (True, False):
        found = unwrap(wrap(data, json=json, **beside), json=json)
        assert found is not None
        envelope, inner = found
        assert inner == (None if json and data == b"null" else data)
        for name, value in beside.items():
            kept = getattr(envelope, name)
            assert kept == value or (name == "updates" and not value)


@fuzzed(st.binary(max_size=40), texts, st.integers(1, 255), st.binary(max_size=40), examples=40)
def test_every_changed_byte_and_every_cut_of_encrypted_data_is_found(
    data: bytes, key: str, change: int, more: bytes
) -> None:
    plan = SessionManager(type=Any, storage="memory:", encryption_keys=[KEY]).runtime
    sealed = plan.serializer.pack(key, data, None, None)
    bad = [sealed[:n] + bytes([sealed[n] ^ change]) + sealed[n + 1 :] for n in range(len(sealed))]
    bad += [sealed[:n] for n in range(len(sealed))]
    bad += [sealed + (more or b"\0"), SEALED + more, SEALED + sealed[2:6] + more]
    for each in bad:
        with pytest.raises(SessionDecodeError):
            plan.serializer.unpack(key, each)
    with pytest.raises(SessionDecodeError):
        plan.serializer.unpack(key + "x", sealed)


@fuzzed(st.binary(max_size=200) | st.binary(max_size=60).map(zstandard.compress), st.integers(0, 300))
def test_compressed_data_never_gives_more_than_its_limit(data: bytes, limit: int) -> None:
    for frame in (data, zstandard.ZstdCompressor(write_content_size=False).compress(data)):
        with contextlib.suppress(CodecError):
            assert len(decompress(COMPRESSED + frame, limit)) <= limit


@fuzzed(numbers | json_values)
def test_a_version_that_makes_no_sense_is_an_error_of_the_contract(version: Any) -> None:
    plan = SessionManager(type=Any, storage="memory:", migrations={1: lambda old: old}).runtime
    data = msgspec.json.encode({"__d": {"a": 1}, "v": version})
    try:
        opened = plan.serializer.unpack("chat", data)
    except (SessionMigrationError, SessionDecodeError):
        return
    assert opened is not None
    assert opened.schema_version == 1


def test_a_version_of_hundreds_of_digits_is_told_as_such() -> None:
    plan = SessionManager(type=Any, storage="memory:", migrations={1: lambda old: old}).runtime
    with pytest.raises(SessionMigrationError, match="a number of hundreds of digits"):
        plan.serializer.unpack("chat", b'{"__d":{},"v":' + b"9" * 400 + b"}")


def test_keys_that_are_made_do_what_these_here_do() -> None:
    assert len(generate_encryption_key()) == len(KEY)


async def test_a_field_whose_name_is_no_text_is_not_lost() -> None:
    storage = MemoryStorage()
    stored = b'{"\xf4":1,"name":"Ann"}'
    await storage.commit_many([Change("chat", Action.PUT, stored)])
    async with storage, SessionManager(Player, storage=storage) as sessions:
        with pytest.raises(SessionEncodeError, match="not UTF-8"):
            await sessions.update("chat", lambda player: Player(player.name, 1))
    (record,) = await storage.read_many(["chat"])
    assert isinstance(record, Record)
    assert record.value == stored
