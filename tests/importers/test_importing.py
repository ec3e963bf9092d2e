"""Entries become sessions, each once and under its lock; what cannot be carried over is told."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chatsession import (
    SessionManager,
    StorageUnavailableError,
    per_chat,
    per_topic,
    per_user,
    per_user_in_chat,
)
from chatsession.importers import Entry, ImportReport, import_into
from chatsession.storages.memory import MemoryStorage


@dataclass
class Pizza:
    count: int = 0
    toppings: list[str] = field(default_factory=list)


async def given(*entries: Entry) -> AsyncIterator[Entry]:
    for entry in entries:
        yield entry


async def keys_of(sessions: SessionManager[Any]) -> list[str]:
    return [key async for key, _ in sessions.entries()]


def chat(id_: int, data: Any, **others: Any) -> Entry:
    return Entry(origin=f"chat[{id_}]", kind="chat", data=data, chat_id=id_, **others)


def _told(event: asyncio.Event, entry: Entry) -> Pizza:
    event.set()
    return Pizza(**entry.data)


@pytest.fixture(params=["memory:", "sqlite:///{}/bot.db", "file://{}/sessions"], ids=["memory", "sqlite", "file"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> SessionManager[Pizza]:
    return SessionManager(Pizza, storage=request.param.format(tmp_path), prefix="pizza:")


async def test_entries_become_sessions(sessions: SessionManager[Pizza]) -> None:
    async with sessions:
        report = await import_into(sessions, given(chat(1, {"count": 3, "toppings": ["a"]}), chat(2, {"count": 4})))
        assert report == ImportReport(seen=2, imported=2)
        assert {key: pizza async for key, pizza in sessions.entries()} == {"1": Pizza(3, ["a"]), "2": Pizza(4)}


async def test_a_dry_run_says_the_same_and_stores_nothing(sessions: SessionManager[Pizza]) -> None:
    def entries() -> AsyncIterator[Entry]:
        return given(chat(1, {"count": 3}), chat(2, {"count": "four"}), chat(3, {"lost": 1}), chat(4, {}), chat(4, {}))

    async with sessions:
        await sessions.update(4, lambda pizza: Pizza(pizza.count + 1))
        tried = await import_into(sessions, entries(), dry_run=True)
        assert await keys_of(sessions) == ["4"]
        assert tried == await import_into(sessions, entries())
        assert (tried.imported, tried.existing, tried.failed) == (2, 2, 1)


async def test_existing_sessions_are_kept_when_an_import_is_repeated(sessions: SessionManager[Pizza]) -> None:
    async with sessions:
        await sessions.update(1, lambda _: Pizza(100))
        entries = [chat(1, {"count": 3}), chat(2, {"count": 4})]
        assert await import_into(sessions, given(*entries)) == ImportReport(seen=2, imported=1, existing=1)
        await sessions.update(2, lambda pizza: Pizza(pizza.count + 1))
        assert await import_into(sessions, given(*entries)) == ImportReport(seen=2, existing=2)
        assert [await sessions.get(1), await sessions.get(2)] == [Pizza(100), Pizza(5)]


async def test_what_is_there_is_replaced_on_request(sessions: SessionManager[Pizza]) -> None:
    async with sessions:
        await sessions.update(1, lambda _: Pizza(100))
        report = await import_into(sessions, given(chat(1, {"count": 3})), on_existing="replace")
        assert report == ImportReport(seen=1, imported=1)
        assert await sessions.get(1) == Pizza(3)
    with pytest.raises(ValueError, match="on_existing must be"):
        await import_into(sessions, given(), on_existing="merge")  # type: ignore[arg-type] # on purpose


async def test_a_session_that_a_handler_holds_is_waited_for(sessions: SessionManager[Pizza]) -> None:
    async with sessions, asyncio.TaskGroup() as group:
        async with sessions.open(1) as session:
            other = asyncio.Event()
            entries = given(chat(1, {"count": 3}), chat(2, {}))
            work = group.create_task(import_into(sessions, entries, convert=lambda entry: _told(other, entry)))
            await other.wait()
            session.data.count += 1
        assert await work == ImportReport(seen=2, imported=1, existing=1)
        assert await sessions.get(1) == Pizza(1)


async def test_convert_makes_the_data_or_leaves_it_out(sessions: SessionManager[Pizza]) -> None:
    def convert(entry: Entry) -> Pizza | None:
        return None if entry.data == 0 else Pizza(10 // (entry.data - 1))

    async with sessions:
        report = await import_into(sessions, given(*(chat(n, n) for n in range(4))), convert=convert)
        assert (report.imported, report.skipped) == (2, 1)
        assert report.failures == [("chat[1]", "convert raised ZeroDivisionError")]
        assert [await sessions.get(n) for n in range(4)] == [None, None, Pizza(10), Pizza(5)]


async def test_a_converted_value_that_cannot_be_stored_is_told(sessions: SessionManager[Pizza]) -> None:
    def convert(entry: Entry) -> Pizza:
        return Pizza(entry.data)

    async with sessions:
        for dry_run in (True, False):
            report = await import_into(sessions, given(chat(1, "secret"), chat(2, 5)), convert=convert, dry_run=dry_run)
            assert report.reasons == {"SessionEncodeError": 1}
            assert "secret" not in str(report.failures)
        assert await sessions.get(2) == Pizza(5)


async def test_what_the_type_has_no_place_for_is_told(sessions: SessionManager[Pizza]) -> None:
    data = {"count": 1, "unknown": 2, "41234567": 3, "toppings": ["a"]}
    async with sessions:
        report = await import_into(sessions, given(chat(1, data), chat(2, data, state="Form:name")))
        assert report.imported == 2
        assert report.left_behind == {"$.unknown": 2, "$[...]": 2, "aiogram's state": 1}


async def test_what_lies_deeper_and_has_no_place_is_told() -> None:
    @dataclass
    class Inner:
        a: int = 0

    sessions = SessionManager(dict[str, list[Inner]], storage="memory:")
    async with sessions:
        report = await import_into(sessions, given(chat(1, {"x": [{"a": 1}, {"a": 1, "b": 2}]})))
    assert report.left_behind == {"$.x[...].b": 1}


async def test_problems_and_notes_of_a_source_are_counted(sessions: SessionManager[Pizza]) -> None:
    bad = [Entry(origin=f"e{n}", kind="x", problem="it is not JSON") for n in range(1500)]
    async with sessions:
        report = await import_into(sessions, given(*bad, Entry(origin="n", kind="x", note="buttons"), chat(1, {})))
    assert (report.seen, report.imported, report.failed) == (1501, 1, 1500)
    assert report.reasons == {"it is not JSON": 1500}
    assert report.left_behind == {"buttons": 1}
    assert len(report.failures) == 1000


async def test_data_that_does_not_fit_is_told_without_showing_it(sessions: SessionManager[Pizza]) -> None:
    async with sessions:
        report = await import_into(sessions, given(chat(1, {"count": "secret"}), chat(2, {"x": object()})))
        assert report.reasons == {"SessionDecodeError": 2}
        assert "`$.count`" in report.failures[0][1]
        assert "convert=" in report.failures[0][1]
        assert "secret" not in str(report)
        assert await keys_of(sessions) == []


async def test_untyped_sessions_refuse_what_would_come_back_changed() -> None:
    async with SessionManager(storage="memory:") as sessions:
        good = {"a": [1, None, {"b": 2.5}]}
        bad = [{"at": datetime.date(2026, 1, 1)}, {1: 2}, {"a": {1}}, (1,)]
        report = await import_into(sessions, given(chat(0, good), *(chat(n, each) for n, each in enumerate(bad, 1))))
        assert (report.imported, report.failed) == (1, 4)
        assert {key: data async for key, data in sessions.entries()} == {"0": good}


async def test_two_entries_with_one_key_do_not_overwrite_each_other(sessions: SessionManager[Pizza]) -> None:
    twins = [Entry(origin=f"user {n}", kind="fsm", data={"count": n}, chat_id=1, user_id=n) for n in range(250)]
    async with sessions:
        report = await import_into(sessions, given(*twins), on_existing="replace")
        assert (report.imported, report.failed) == (1, 249)
        assert "another entry has the same session key" in report.failures[0][1]
        assert await sessions.get(1) == Pizza(0)
        report = await import_into(sessions, given(*twins), key=lambda entry: f"{entry.chat_id}:{entry.user_id}")
        assert report == ImportReport(seen=250, imported=250)


@pytest.mark.parametrize(
    ("get_session_key", "key"),
    [(per_chat, "biz:-1"), (per_user, "2"), (per_user_in_chat, "biz:-1:2"), (per_topic, "biz:-1:3")],
)
async def test_the_key_functions_of_the_library_know_entries(get_session_key: Any, key: str) -> None:
    entry = chat(-1, 5, user_id=2, thread_id=3, business_connection_id="biz")
    async with SessionManager(int, storage="memory:", get_session_key=get_session_key) as sessions:
        await import_into(sessions, given(entry))
        assert await keys_of(sessions) == [key]


async def test_an_entry_without_a_key_is_told(sessions: SessionManager[Pizza]) -> None:
    entries = [Entry(origin="user", kind="user_data", data={}, user_id=1), chat(2, {})]
    async with sessions:
        report = await import_into(sessions, given(*entries))
        assert report.failures == [("user", "it has no session key: pass key=…, which gives one")]
        report = await import_into(sessions, given(*entries), key=lambda entry: "" if entry.user_id else 1 // 0)
        assert report.reasons == {"SessionKeyError": 1, "key raised ZeroDivisionError": 1}


async def test_a_stored_session_that_cannot_be_read_stays_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bot.db"
    async with SessionManager(str, storage=url) as others:
        await others.update(1, lambda _: "precious")
    for on_existing in ("keep", "replace"):
        async with SessionManager(Pizza, storage=url) as sessions:
            report = await import_into(sessions, given(chat(1, {})), on_existing=on_existing)
            assert report.reasons == {"SessionDecodeError": 1}
    async with SessionManager(str, storage=url) as others:
        assert await others.get(1) == "precious"


async def test_a_storage_that_is_gone_ends_the_import(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(MemoryStorage):
        async def commit_many(self, changes: Any) -> Any:
            raise StorageUnavailableError("it is gone")

    caplog.set_level(logging.CRITICAL, "chatsession")
    closed: list[bool] = []

    async def entries() -> AsyncIterator[Entry]:
        try:
            for n in range(1000):
                yield chat(n, {"count": 1})
        finally:
            closed.append(True)

    async with SessionManager(Pizza, storage=Gone()) as sessions:
        with pytest.raises(StorageUnavailableError):
            await import_into(sessions, entries())
    assert closed == [True]


async def test_progress_is_told(sessions: SessionManager[Pizza]) -> None:
    seen: list[int] = []
    async with sessions:
        entries = given(*(chat(n, {}) for n in range(250)))
        await import_into(sessions, entries, progress=lambda report: seen.append(report.imported))
    assert seen == [100, 200, 250]


async def test_an_import_that_was_cancelled_can_be_made_again(sessions: SessionManager[Pizza]) -> None:
    entries = [chat(n, {"count": n}) for n in range(210)]
    task: asyncio.Task[ImportReport]

    def cancel(report: ImportReport) -> None:
        task.cancel()

    async with sessions:
        task = asyncio.create_task(import_into(sessions, given(*entries), progress=cancel))
        with pytest.raises(asyncio.CancelledError):
            await task
        done = await keys_of(sessions)
        assert len(done) >= 100
        report = await import_into(sessions, given(*entries))
        assert report == ImportReport(seen=210, existing=len(done), imported=210 - len(done))
        assert {key: pizza.count async for key, pizza in sessions.entries()} == {str(n): n for n in range(210)}


async def test_a_bot_that_runs_loses_no_update(sessions: SessionManager[Pizza]) -> None:
    async def handle(id_: int) -> None:
        async with sessions.open(id_) as session:
            await asyncio.sleep(0)
            session.data.count += 1

    async with sessions:
        async with asyncio.TaskGroup() as group:
            for n in range(150):
                group.create_task(handle(n % 15))
            work = group.create_task(import_into(sessions, given(*(chat(n, {"count": 1000}) for n in range(15)))))
        report = work.result()
        assert report.imported + report.existing == 15
        counts = [pizza.count async for _, pizza in sessions.entries()]
        assert Counter(counts) == Counter({1010: report.imported, 10: report.existing})


async def test_the_data_of_a_chat_that_has_moved_follows_it(sessions: SessionManager[Pizza]) -> None:
    async with sessions:
        await sessions.move(-1, -1001)
        report = await import_into(sessions, given(chat(-1, {"count": 3}), chat(-1001, {"count": 4})))
        assert await sessions.get(-1001) in (Pizza(3), Pizza(4))
        assert await sessions.get(-1) == await sessions.get(-1001)
        assert report.imported == report.existing + report.failed == 1


async def test_a_key_of_a_wrong_kind_costs_only_its_entry(sessions: SessionManager[Pizza]) -> None:
    async with sessions:
        report = await import_into(
            sessions,
            given(chat(1, {}), chat(2, {})),
            key=lambda entry: "\ud800"[: entry.chat_id] if entry.chat_id == 1 else "ok",
        )
        assert report.reasons == {"SessionKeyError": 1}
        assert report.imported == 1


async def test_a_type_without_json_needs_convert() -> None:
    class Odd:
        pass

    class Text:
        def encode(self, value: Odd) -> bytes:
            return b"odd"

        def decode(self, data: bytes) -> Odd:
            return Odd()

    async with SessionManager(Odd, storage="memory:", codec=Text()) as sessions:
        with pytest.raises(TypeError, match="cannot be stored"):
            await import_into(sessions, given(chat(1, {})))
        report = await import_into(sessions, given(chat(1, {})), convert=lambda _: Odd())
        assert report.imported == 1
