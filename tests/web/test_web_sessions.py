"""Finding, reading, changing: over HTTP, beside a bot that has the same file open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from web_aids import Visitor, keys_of, put, stored

from chatsession import SessionConflictError, SessionManager, generate_encryption_key, open_storage
from chatsession.storages import Storage
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.web import _sessions, inspecting

STRANGE_KEYS = ["\n\t\0", "<b onmouseover=alert(1)>", "../../etc/passwd", "🍕", "‮live", "a" * 100_000, '"quoted"']
Visiting = Callable[..., AbstractAsyncContextManager[Visitor]]


async def test_a_chat_is_found_by_its_key_and_by_its_beginning(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"1", "424": b"2", "7": b"3"})
    exact, beginning, everything = [await visitor.found(text=text) for text in ("42", "4", "")]
    assert (exact["exact"], keys_of(exact)) == (True, ["42", "424"])
    assert (beginning["exact"], keys_of(beginning)) == (False, ["42", "424"])
    assert sorted(keys_of(everything)) == ["42", "424", "7"]


async def test_pages_lead_through_all_keys(bot: Storage, visitor: Visitor) -> None:
    keys = {f"{number:04}" for number in range(250)}
    await put(bot, dict.fromkeys(keys, b"{}"))
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        page = await visitor.found(cursor=cursor)
        assert len(page["sessions"]) <= 100
        seen += keys_of(page)
        cursor = page["cursor"]
    assert cursor is None
    assert len(seen) == 250
    assert set(seen) == keys


@pytest.mark.parametrize("key", STRANGE_KEYS, ids=range(len(STRANGE_KEYS)))
async def test_any_key_is_found_read_and_changed(key: str, bot: Storage, visitor: Visitor) -> None:
    await put(bot, {key: b'{"n":1}'})
    found = await visitor.found(text=key)
    assert found["exact"]
    assert keys_of(found) == [key]
    _, session = await visitor.ask("read", key=key)
    status, _ = await visitor.ask("write", key=key, mark=session["mark"], text='{"n": 2}', kind="json")
    assert status == 200
    assert await stored(bot, key) == b'{"n":2}'


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (b'{"10":1,"9":12345678901234567890,"x":1.50,"x":[]}', "json", None),
        (b"", "text", ""),
        (b"not {json", "text", "not {json"),
        (b'"\\ud800"', "text", '"\\ud800"'),
        (b"\xff\x00", "hex", "ff 00"),
        (b"a\r\nb", "hex", "61 0d 0a 62"),
        (b"[" * 50_000 + b"]" * 50_000, "text", None),
        (b"\x01z not zstandard", "hex", None),
        (b"\x01h\xff\xff\xff\xff", "hex", "01 68 ff ff ff ff"),
    ],
)
async def test_what_is_shown_and_saved_unchanged_is_the_same_bytes(
    value: bytes, kind: str, text: str | None, bot: Storage, visitor: Visitor
) -> None:
    await put(bot, {"42": value})
    _, session = await visitor.ask("read", key="42")
    assert session["kind"] == kind
    if text is not None:
        assert session["text"] == text
    status, _ = await visitor.ask("write", key="42", mark=session["mark"], text=session["text"], kind=kind)
    assert status == 200
    assert await stored(bot, "42") == value


async def test_a_session_that_does_not_decode_can_be_mended(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b'{"pizzas": 1'})
    _, session = await visitor.ask("read", key="42")
    assert session["kind"] == "text"
    status, mended = await visitor.ask("write", key="42", mark=session["mark"], text='{"pizzas": 1}', kind="json")
    assert (status, mended["kind"]) == (200, "json")


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        ("{\n  'a': 1}", "json", "line 2, column 3"),
        ('{"a": 1', "json", "ends too early"),
        ("abc", "hex", "hexadecimal"),
        ("[" * 1_000_000, "json", "too deeply"),
    ],
)
async def test_what_is_no_json_is_refused_with_its_place(
    text: str, kind: str, word: str, bot: Storage, visitor: Visitor
) -> None:
    await put(bot, {"42": b"{}"})
    _, session = await visitor.ask("read", key="42")
    status, refused = await visitor.ask("write", key="42", mark=session["mark"], text=text, kind=kind)
    assert status == 422
    assert word in refused["error"]
    assert await stored(bot, "42") == b"{}"


async def test_of_two_who_edit_the_second_overwrites_nothing(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b'{"n":1}'})
    _, mine = await visitor.ask("read", key="42")
    _, yours = await visitor.ask("read", key="42")
    assert (await visitor.ask("write", key="42", mark=mine["mark"], text='{"n": 2}', kind="json"))[0] == 200
    status, refused = await visitor.ask("write", key="42", mark=yours["mark"], text='{"n": 3}', kind="json")
    assert status == 409
    assert "changed" in refused["error"]
    assert (await visitor.ask("delete", key="42", mark=yours["mark"]))[0] == 409
    assert await stored(bot, "42") == b'{"n":2}'


async def test_two_who_create_the_same_session(bot: Storage, visitor: Visitor) -> None:
    body = {"key": "42", "mark": "nothing", "kind": "json"}
    answers = await asyncio.gather(*(visitor.ask("write", text=str(n), **body) for n in range(5)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]


async def test_an_edit_waits_for_the_bot_and_its_update_is_not_lost(bot: Storage, visitor: Visitor) -> None:
    bots: SessionManager[Any] = SessionManager(dict[str, int], storage=bot)
    await put(bot, {"42": b'{"n":1}'})
    _, seen = await visitor.ask("read", key="42")
    async with bots:
        async with bots.open("42") as session:
            editing = asyncio.create_task(
                visitor.ask("write", key="42", mark=seen["mark"], text='{"n": 100}', kind="json")
            )
            await visitor.ask("about")  # by then the edit has arrived
            session.data["n"] = 2
        status, _ = await editing
        assert status == 409
        assert await bots.get("42") == {"n": 2}


async def test_a_bot_that_holds_a_session_for_long_is_not_disturbed(
    bot: Storage, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sessions, "LOCK_TIMEOUT", 0.05)
    await put(bot, {"42": b'{"n":1}'})
    _, seen = await visitor.ask("read", key="42")
    async with SessionManager(dict[str, int], storage=bot) as bots, bots.open("42") as session:
        status, refused = await visitor.ask("write", key="42", mark=seen["mark"], text="{}", kind="json")
        assert status == 423
        assert "Nothing was changed" in refused["error"]
        session.data["n"] = 2
    assert await stored(bot, "42") == b'{"n":2}'


async def test_delete_and_undo(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"\xffdata"}, ttl=1000)
    _, session = await visitor.ask("read", key="42")
    _, deleted = await visitor.ask("delete", key="42", mark=session["mark"])
    assert not deleted["stored"]
    assert await stored(bot, "42") is None
    status, back = await visitor.ask("undo", undo=deleted["undo"])
    assert status == 200
    assert back["expires_at"] == pytest.approx(session["expires_at"], abs=60)
    assert await stored(bot, "42") == b"\xffdata"
    assert (await visitor.ask("undo", undo=deleted["undo"]))[0] == 410


async def test_an_undo_overwrites_nothing_that_came_since(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"1"})
    _, session = await visitor.ask("read", key="42")
    _, deleted = await visitor.ask("delete", key="42", mark=session["mark"])
    await put(bot, {"42": b"2"})
    assert (await visitor.ask("undo", undo=deleted["undo"]))[0] == 409
    assert await stored(bot, "42") == b"2"


async def test_an_edit_keeps_the_time_at_which_a_session_expires(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"1"}, ttl=1000)
    _, session = await visitor.ask("read", key="42")
    _, after = await visitor.ask("write", key="42", mark=session["mark"], text="2", kind="json")
    assert after["expires_at"] == pytest.approx(session["expires_at"], abs=60)
    _, undone = await visitor.ask("undo", undo=after["undo"])
    assert undone["text"] == "1"


async def test_read_only_changes_nothing(bot: Storage, visiting: Visiting) -> None:
    await put(bot, {"42": b"1"})
    async with visiting(read_only=True) as visitor:
        assert (await visitor.ask("about"))[1]["read_only"]
        _, session = await visitor.ask("read", key="42")
        for name in ("write", "delete"):
            status, _ = await visitor.ask(name, key="42", mark=session["mark"], text="2", kind="json")
            assert status == 403
        assert (await visitor.ask("undo", undo=""))[0] == 403
    assert await stored(bot, "42") == b"1"


async def test_a_large_session_is_sent_when_asked_for(bot: Storage, visitor: Visitor) -> None:
    large = json.dumps({"text": "é" * 5_000_000}, ensure_ascii=False, separators=(",", ":")).encode()
    await put(bot, {"42": large})
    answer = await visitor.post("read", {"key": "42"})
    assert len(answer.content) < 20_000
    session = answer.json()
    assert session["text"] is None
    assert session["beginning"].startswith('{"text":"éé')
    _, whole = await visitor.ask("read", key="42", whole=True)
    text = whole["text"].replace("é", "e", 1)
    assert (await visitor.ask("write", key="42", mark=whole["mark"], text=text, kind="json"))[0] == 200
    assert await stored(bot, "42") == large.replace("é".encode(), b"e", 1)


async def test_an_encrypted_session_is_shown_with_its_key_only(bot: Storage, visiting: Visiting) -> None:
    key = generate_encryption_key()
    bots: SessionManager[Any] = SessionManager(
        dict[str, str], storage=bot, encryption_keys=[key], compression=10, deduplicate=5
    )
    async with bots, bots.open("42") as session:
        session.data["secret"] = "pizza " * 50
    sealed = await stored(bot, "42")
    for keys in ([], [generate_encryption_key()]):
        async with visiting(encryption_keys=keys) as visitor:
            answer = await visitor.post("read", {"key": "42", "whole": True})
            seen = answer.json()
            assert seen["hidden"]
            assert seen["text"] == ""
            assert "encrypted" in seen["problem"]
            assert (await visitor.ask("write", key="42", mark=seen["mark"], text="1", kind="json"))[0] == 403
    assert await stored(bot, "42") == sealed
    async with visiting(encryption_keys=[key]) as visitor:
        _, seen = await visitor.ask("read", key="42")
        assert seen["steps"] == ["encrypted", "compressed"]
        text = seen["text"].replace("pizza", "pasta", 1)
        assert (await visitor.ask("write", key="42", mark=seen["mark"], text=text, kind="json"))[0] == 200
    async with bots:
        assert (await bots.get("42"))["secret"].startswith("pasta pizza")
    assert b"pasta" not in (await stored(bot, "42") or b"")


async def test_the_envelope_round_the_data_is_kept(bot: Storage, visitor: Visitor) -> None:
    around = b',"v":2,"e":9e15,"u":[5,6],"f":"41","a":[[6,[["function","tell",[7],{}]]]]}'
    await put(bot, {"42": b'{"__d":{"n":1}' + around})
    _, seen = await visitor.ask("read", key="42")
    assert json.loads(seen["text"]) == {"n": 1}
    assert (seen["beside"]["version"], seen["beside"]["updates"]) == (2, [5, 6])
    await visitor.ask("write", key="42", mark=seen["mark"], text='{"n":2}', kind="json")
    assert json.loads(await stored(bot, "42") or b"") == json.loads(b'{"__d":{"n":2}' + around)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"key": ""}', b'{"key": 5}', b'{"key": "\\ud800"}', b"\xff", b'{"key": "a'], ids=repr
)
async def test_a_malformed_request_is_refused(body: bytes, visitor: Visitor) -> None:
    headers = {"origin": visitor.origin, "content-type": "application/json"}
    answer = await visitor.http.post("/api/read", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_a_storage_that_went_away_is_told_and_nothing_breaks(file: Path) -> None:
    storage = SQLiteStorage(file)
    async with inspecting(storage) as inspector, Visitor(inspector).let_in(inspector.invite()) as visitor:
        await storage.close()
        status, answer = await visitor.ask("find")
        assert status == 500
        assert "closed" in answer["error"]
        await storage.open()
        assert (await visitor.ask("find"))[0] == 200


async def test_a_list_has_sizes_and_expiry(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"12345"})
    await put(bot, {"43": b"1"}, ttl=1000)
    first, second = (await visitor.found())["sessions"]
    assert first == {"key": "42", "size": 5, "expires_at": None}
    assert second["expires_at"] == pytest.approx(time.time() + 1000, abs=60)


async def test_a_list_can_be_sorted(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"b": b"1", "a": b"123"})
    await put(bot, {"c": b"12"}, ttl=1000)
    for order, keys in {"key": "abc", "largest": "acb"}.items():
        found = await visitor.found(order=order)
        assert keys_of(found) == list(keys)
        assert (found["matching"], found["complete"]) == (3, True)
    assert keys_of(await visitor.found(order="expires"))[0] == "c"
    assert keys_of(await visitor.found(order="largest", text="b")) == ["b"]


@pytest.mark.parametrize(
    ("value", "keys"), [("step=ask", ["1"]), ("ASK_", ["2"]), ("cart.0=pizza", ["2"]), ("nothing like it", [])]
)
async def test_sessions_are_found_by_what_is_in_them(
    value: str, keys: list[str], bot: Storage, visitor: Visitor
) -> None:
    await put(bot, {"1": b'{"step":"ask"}', "2": b'{"step":"ask_name","cart":["pizza"]}', "3": b"\xff"})
    assert keys_of(await visitor.found(value=value)) == keys
    assert keys_of(await visitor.found(value=value, order="key")) == keys


async def test_marks_and_data_set_aside_are_not_sessions(bot: Storage, visitor: Visitor) -> None:
    aside = "!quarantine:0011223344556677:9"
    await put(bot, {aside: b"{", "!prefix:cart:": b"{}"})
    async with SessionManager(int, storage=bot, prefix="cart:") as carts:
        await carts.put("1", 1)
    assert keys_of(await visitor.found()) == ["cart:1"]
    assert keys_of(await visitor.found(text="!")) == []
    assert keys_of(await visitor.found(order="key")) == ["cart:1"]
    assert keys_of(await visitor.found(text="!prefix:cart:")) == []
    assert keys_of(await visitor.found(text="!quarantine:")) == [aside]


async def test_when_a_session_expires_can_be_changed_and_undone(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"1"}, ttl=1000)
    _, session = await visitor.ask("read", key="42")
    _, later = await visitor.ask("expire", key="42", mark=session["mark"], seconds=5000)
    assert later["expires_at"] == pytest.approx(session["expires_at"] + 4000, abs=60)
    _, never = await visitor.ask("expire", key="42", mark=later["mark"], seconds=None)
    assert never["expires_at"] is None
    assert (await visitor.ask("expire", key="42", mark=later["mark"], seconds=1))[0] == 409
    _, back = await visitor.ask("undo", undo=never["undo"])
    assert back["expires_at"] == pytest.approx(later["expires_at"], abs=60)
    assert await stored(bot, "42") == b"1"


@pytest.mark.parametrize("seconds", [0, -1, 1e12, "soon", "1"])
async def test_a_time_to_live_is_some_seconds(seconds: object, bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"1"})
    _, session = await visitor.ask("read", key="42")
    assert (await visitor.ask("expire", key="42", mark=session["mark"], seconds=seconds))[0] == 400


async def test_an_edit_leaves_a_session_for_ever_as_it_was(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"42": b"1"})
    _, session = await visitor.ask("read", key="42")
    _, edited = await visitor.ask("write", key="42", mark=session["mark"], text="2", kind="json")
    await visitor.ask("expire", key="42", mark=edited["mark"], seconds=100)
    _, session = await visitor.ask("read", key="42")
    assert (await visitor.ask("undo", undo=edited["undo"]))[0] == 409
    assert session["expires_at"] is not None


async def test_all_changes_that_can_be_undone_are_listed(bot: Storage, visitor: Visitor) -> None:
    marks = ["nothing"]
    for number in range(55):
        _, session = await visitor.ask("write", key="42", mark=marks[-1], text=str(number), kind="json")
        marks.append(session["mark"])
    _, deleted = await visitor.ask("delete", key="42", mark=marks[-1])
    _, changes = await visitor.ask("changes")
    assert [change["what"] for change in changes] == ["deleted"] + ["edited"] * 49
    assert changes[0]["undo"] == deleted["undo"]
    for change in changes:
        assert (await visitor.ask("undo", undo=change["undo"]))[0] == 200
    assert await stored(bot, "42") == b"5"


async def test_locks_are_listed_and_can_be_broken(bot: Storage, visitor: Visitor) -> None:
    async with SessionManager(int, storage=bot) as bots:
        with pytest.raises(SessionConflictError):
            async with bots.open("42") as session:
                session.data = 7
                _, told = await visitor.ask("locks")
                (lock,) = told["locks"]
                assert lock["key"] == "42"
                stale = {"key": "42", "token": lock["token"] + 1}
                assert await visitor.ask("unlock", **stale) == (200, {"broken": False})
                assert await visitor.ask("unlock", key="42", token=lock["token"]) == (200, {"broken": True})
        assert (await visitor.ask("locks"))[1]["locks"] == []
        assert await bots.get("42") is None


async def test_a_storage_that_cannot_list_locks_says_so(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/sessions")
    async with inspecting(storage) as inspector, Visitor(inspector).let_in(inspector.invite()) as visitor:
        assert await visitor.ask("locks") == (200, None)


async def test_problems_are_listed(bot: Storage, visitor: Visitor) -> None:
    await put(bot, {"1": b"1", "2": b'{"a":', "!quarantine:0011223344556677:9": b"{"})
    events = [event async for event in visitor.follow("problems")]
    found = [finding for name, data in events if name == "problems" for finding in data["found"]]
    assert {(finding["key"], finding["trouble"]) for finding in found} == {
        ("2", "torn"),
        ("!quarantine:0011223344556677:9", "quarantined"),
    }
    assert events[-1] == ("done", {"seen": 2})


async def test_looking_only_breaks_no_lock(bot: Storage, visiting: Visiting) -> None:
    await put(bot, {"42": b"1"})
    async with visiting(read_only=True) as visitor:
        _, session = await visitor.ask("read", key="42")
        assert (await visitor.ask("unlock", key="42", token=1))[0] == 403
        assert (await visitor.ask("expire", key="42", mark=session["mark"], seconds=1))[0] == 403
