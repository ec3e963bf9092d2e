"""Whatever a dump holds, an import counts what it cannot bring, and changes nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fuzz_aids import damaged, envelopes, fuzzed, json_bytes, json_values, numbers, texts
from hypothesis import strategies as st

from chatsession import SessionError, SessionManager
from chatsession.importers import Entry, aiogram_fsm, grammy, import_into, ptb
from chatsession.importers._pickles import Plain
from chatsession.importers._unpickling import PickleError, load
from chatsession.keys import per_user
from tools.servers.redis import RedisServer

whole_pickles = st.tuples(
    st.dictionaries(
        st.sampled_from(["user_data", "chat_data", "bot_data", "conversations", "callback_data"]) | texts,
        json_values | st.dictionaries(st.integers() | texts, json_values, max_size=3),
        max_size=5,
    ),
    st.integers(0, 5),
).map(lambda drawn: pickle.dumps(drawn[0], drawn[1]))
OPCODES = [bytes([value[0]]) for name, value in vars(pickle).items() if name.isupper() and isinstance(value, bytes)]
pieces = st.lists(
    st.sampled_from(OPCODES)
    | st.sampled_from(
        [b"cos\nsystem\n", b"cbuiltins\ndict\n", b"cdatetime\ndatetime\n", b"\x8c\x01a", b"K\x01", b"I1\n", b"("]
    )
    | st.binary(max_size=4),
    max_size=25,
).map(lambda parts: b"\x80\x04" + b"".join(parts) + b".")


@fuzzed(damaged(whole_pickles) | pieces | damaged(pieces) | st.binary(max_size=60), examples=150)
def test_any_file_is_a_pickle_or_an_error(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "bot.pickle")
        path.write_bytes(data)
        for allow in ((), ("*",)):
            with contextlib.suppress(PickleError):
                Plain(allow)(load(path))

        async def bring() -> None:
            for kind in ("user_data", "chat_data", "bot_data"):
                sessions = SessionManager(type=dict[str, Any], storage="memory:", get_session_key=per_user)
                try:
                    report = await import_into(sessions, ptb.entries(path, kind, allow=("*",)))
                    assert report.seen == report.imported + report.existing + report.skipped + report.failed
                except SessionError:
                    pass

        asyncio.run(bring())
        assert path.read_bytes() == data


def test_an_id_of_thousands_of_digits_is_none() -> None:
    for name in (f"fsm:{'1' * 5000}:5:data", "fsm:²:5:data", "fsm:--5:5:data", "fsm:-:5:data"):
        assert aiogram_fsm.ids_of(name, "data", aiogram_fsm.DefaultKeys()) is None
    assert aiogram_fsm.ids_of("fsm:-5:7:data", "data", aiogram_fsm.DefaultKeys()) is not None


@fuzzed(json_values | numbers | st.binary(max_size=5), st.text(max_size=5), json_values | numbers)
def test_any_entry_is_brought_or_counted(data: Any, key: str, version: Any) -> None:
    entry = Entry(origin="x", kind="session", data=data, key=key, version=version if type(version) is int else None)

    async def entries() -> AsyncIterator[Entry]:
        yield entry

    async def bring() -> None:
        for options in ({}, {"migrations": {1: lambda old: old}}, {"encryption_keys": ["a" * 43 + "="]}):
            for kind in (dict[str, Any], dict[str, int], Any):
                sessions = SessionManager(type=kind, storage="memory:", **options)
                assert (await import_into(sessions, entries())).seen == 1

    asyncio.run(bring())


@pytest.mark.parametrize("depth", [300, 500, 700, 950, 5000])
async def test_data_that_is_nested_deeply_is_brought_or_counted(depth: int) -> None:
    data: Any = 1
    for _ in range(depth):
        data = {"a": data}

    async def entries() -> AsyncIterator[Entry]:
        yield Entry(origin="x", kind="session", data=data, key="a")
        yield Entry(origin="y", kind="session", data={"a": 1}, key="b")

    report = await import_into(SessionManager(type=dict[str, Any], storage="memory:"), entries())
    assert (report.seen, report.imported + report.failed) == (2, 2)


@fuzzed(st.text(max_size=6) | st.sampled_from(["42", "bot:42", "..", "a/b", "\udc80"]), damaged(json_bytes | envelopes))
def test_any_file_of_grammys_is_brought_or_counted(key: str, data: bytes) -> None:
    with TemporaryDirectory() as folder:
        name = (key.replace("/", "").replace("\0", "") or "x")[:40]
        path = Path(os.fsencode(folder).decode(), name[-2:].replace(".", "_"), f"{name}.json")
        path.parent.mkdir()
        try:
            path.write_bytes(data)
        except (OSError, UnicodeEncodeError):  # no name for a file
            return

        async def bring() -> None:
            sessions = SessionManager(type=Any, storage="memory:", migrations={1: lambda old: old})
            report = await import_into(sessions, grammy.file_entries(folder))
            assert report.seen == 1

        asyncio.run(bring())
        assert path.read_bytes() == data


def test_links_pipes_and_holes_in_a_folder_of_grammys_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    (tmp_path / "secret").write_text('"hunter2"')
    (folder / "42.json").symlink_to(tmp_path / "secret")
    (folder / "142.json").symlink_to("/dev/zero")
    os.mkfifo(folder / "242.json")
    (folder / "342.json").mkdir()
    with (folder / "442.json").open("wb") as hole:
        hole.truncate(1 << 40)

    async def bring() -> None:
        report = await import_into(SessionManager(type=Any, storage="memory:"), grammy.file_entries(tmp_path))
        assert (report.seen, report.imported, report.failed) == (4, 0, 4)

    asyncio.run(asyncio.wait_for(bring(), 60))


def test_any_key_and_value_of_redis_is_brought_or_counted(tmp_path: Path) -> None:
    from redis import Redis

    keys = st.lists(
        st.sampled_from(["fsm", "data", "state", "42", "-1001", "1" * 5000, "²", "", "a", "-", "default", "\udcff"]),
        min_size=1,
        max_size=7,
    ).map(":".join)

    with RedisServer() as server:
        client = Redis.from_url(server.url)

        @fuzzed(keys, damaged(json_bytes | envelopes), st.booleans(), st.booleans())
        def check(key: str, value: bytes, with_bot: bool, with_destiny: bool) -> None:
            client.flushall()
            name = key.encode(errors="surrogateescape")
            for each in (name, b"fsm:" + name, b"fsm:" + name + b":data", b"fsm:" + name + b":state"):
                client.set(each, value)
            client.rpush(b"fsm:5:5:data", value)
            builder = aiogram_fsm.DefaultKeys(with_bot_id=with_bot, with_destiny=with_destiny)

            async def bring() -> None:
                sessions = SessionManager(type=Any, storage="memory:", get_session_key=per_user)
                await import_into(sessions, aiogram_fsm.entries(server.url, key_builder=builder), dry_run=True)
                await import_into(sessions, grammy.redis_entries(server.url), dry_run=True)

            asyncio.run(bring())
            assert client.get(name) == value

        check()
