"""Whatever is asked of the inspector, by whomever: an answer, no failure, and no change that nobody asked for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from fuzz_aids import damaged, envelopes, fuzzed, json_bytes, json_values, texts
from hypothesis import strategies as st

from chatsession.contents import UnusableTextError, stored_form, view
from chatsession.serialization.compression import COMPRESSED
from chatsession.serialization.encryption import SEALED, Keyring
from chatsession.storages import Action, Change, Record
from chatsession.storages.memory import MemoryStorage
from chatsession.web._answers import described
from chatsession.web._app import Api
from chatsession.web._guard import Guard

HOST, PORT = "127.0.0.1:7", 7
NAMES = ["about", "find", "read", "write", "delete", "undo", "invite", "nonsense"]
VALUE = b'{"a":1}'

bodies = st.fixed_dictionaries(
    {},
    optional={
        "key": texts | json_values | st.just("42"),
        "text": texts | json_values,
        "cursor": texts | json_values | st.sampled_from(["0", "1-", "-", "0:x:0", "a:b:c:d", "9" * 5000, "/"]),
        "mark": texts | st.sampled_from(["nothing", ""]),
        "kind": st.sampled_from(["json", "text", "hex", "x"]) | json_values,
        "whole": st.booleans() | json_values,
        "undo": texts | json_values,
        "x": json_values,
    },
).map(msgspec.json.encode)


class Inspected:
    """The application as a server would call it."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.api = Api(self.storage, name="x", read_only=False, keyring=None, invite=lambda: "")
        self.guard = Guard(self.api.app(), PORT)

    async def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        raw = [(name.encode("latin1"), value.encode("latin1", "replace")) for name, value in headers.items()]
        scope: dict[str, Any] = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(errors="replace"), "root_path": "",
            "query_string": query.encode(errors="replace"), "headers": raw, "http_version": "1.1", "scheme": "http",
            "server": ("127.0.0.1", PORT), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        sent: list[Any] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return parts.pop(0) if len(parts) > 1 else parts[0]

        async def send(message: Any) -> None:
            sent.append(message)

        await self.guard(scope, receive, send)
        answer = {name.decode(): value.decode("latin1") for name, value in sent[0]["headers"]}
        return sent[0]["status"], answer, b"".join(part.get("body", b"") for part in sent[1:])

    async def cookie(self) -> str:
        token = self.guard.invite().partition("token=")[2]
        _, answer, _ = await self.ask("GET", "/enter", {"host": HOST}, b"", f"token={token}")
        return answer["set-cookie"].partition(";")[0]


HEADERS = [
    "host",
    "origin",
    "content-type",
    "cookie",
    "content-length",
    "transfer-encoding",
    "range",
    "x-forwarded-host",
]
SENT = [HOST, "localhost:7", f"http://{HOST}", "application/json", "evil", "[::1", "", "bytes=0-", "chatsession_7=x"]
PATHS = ["/", "/enter", "/static/", "/static/..%2f", "/static/../_app.py", "/static/\0", "//static/", "/api/read"]
short = st.text(max_size=10)
headers = st.dictionaries(
    st.sampled_from(HEADERS), st.sampled_from(SENT) | st.text(st.characters(max_codepoint=255), max_size=10)
)
paths = st.sampled_from(PATHS) | short.map(lambda text: f"/static/{text}") | short.map(lambda text: f"/{text}")


@fuzzed(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "X"]), paths, headers, st.binary(max_size=20), texts, examples=100
)
def test_strangers_get_an_answer_and_no_further(
    method: str, path: str, sent: dict[str, str], body: bytes, query: str
) -> None:
    async def check() -> None:
        inspected = Inspected()
        async with inspected.api.sessions:
            for extra in (
                {},
                {"host": HOST},
                {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/json"},
            ):
                status, answer, text = await inspected.ask(method, path, {**sent, **extra}, body, f"token={query}")
                assert status < 500
                assert "content-security-policy" in answer
                assert status in (401, 403, 421) or path.startswith("/static") or "/static/" in path
                assert b"chatsession.web" not in text

    asyncio.run(check())


@fuzzed(st.sampled_from(NAMES), damaged(bodies) | bodies | json_bytes | st.binary(max_size=20), examples=100)
def test_any_body_is_answered_and_changes_nothing_but_what_it_names(name: str, body: bytes) -> None:
    async def check() -> None:
        inspected = Inspected()
        async with inspected.api.sessions:
            await inspected.storage.commit_many([Change("42", Action.PUT, VALUE)])
            sent = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/json"}
            status, _, text = await inspected.ask(
                "POST", f"/api/{name}", {**sent, "cookie": await inspected.cookie()}, body
            )
            assert status < 500 or b"no cursor" in text
            if name != "nonsense":
                json.loads(text)
            (left,) = await inspected.storage.read_many(["42"])
            assert isinstance(left, Record)  # nothing here knows its mark
            assert left.value == VALUE

    asyncio.run(check())


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b" " * 1_000_000,
        b"9" * 1_000_000,
    ],
    ids=["nested", "nested objects", "nested and unknown", "spaces", "a huge number"],
)
async def test_bombs_are_malformed_requests(body: bytes) -> None:
    inspected = Inspected()
    async with inspected.api.sessions:
        sent = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/json"}
        status, _, _ = await inspected.ask("POST", "/api/find", {**sent, "cookie": await inspected.cookie()}, body)
        assert status == 400


@fuzzed(
    damaged(json_bytes | envelopes) | st.binary(max_size=30),
    texts,
    st.sampled_from(["json", "text", "hex"]),
    examples=100,
)
def test_whatever_is_stored_is_shown_and_can_be_stored_again(stored: bytes, text: str, kind: Any) -> None:
    for keyring in (None, Keyring([b"a" * 32])):
        msgspec.json.decode(described("42", Record(stored, 1), keyring, whole=True))
        seen = view("42", stored, keyring)
        for typed, how in ((text, kind), (seen.text, seen.kind)):
            try:
                again = stored_form("42", seen, typed, how, keyring)
            except UnusableTextError:
                continue
            if typed == seen.text and how == seen.kind and seen.data is not None and not seen.hidden:
                assert view("42", again, keyring).text == seen.text


@pytest.mark.parametrize("inner", [SEALED + b"j" * 99, COMPRESSED + b"j" * 99])
def test_compressed_data_that_no_manager_writes_is_shown_and_stored_as_it_lies(inner: bytes) -> None:
    stored = COMPRESSED + zstandard.compress(inner)
    seen = view("42", stored, None)
    assert (seen.data, seen.problem[:17]) == (stored, "It cannot be read")
    assert stored_form("42", seen, seen.text, seen.kind, None) == stored


def test_a_path_that_is_taken_for_a_host_opens_nothing() -> None:
    async def check() -> None:
        inspected = Inspected()
        async with inspected.api.sessions:
            for path in ("@evil/static/", "?/static/", "@evil/enter", ":/static/x", "#/static/"):
                status, _, _ = await inspected.ask("GET", path, {"host": HOST}, b"")
                assert status == 401

    asyncio.run(check())


def test_the_static_files_are_all_that_is_public(tmp_path: Path) -> None:
    async def check() -> None:
        inspected = Inspected()
        async with inspected.api.sessions:
            for path in ("/static/../_app.py", "/static/%2e%2e/_app.py", "/static//etc/passwd", "/static/..\\_app.py"):
                status, _, _ = await inspected.ask("GET", path, {"host": HOST}, b"")
                assert status == 404

    asyncio.run(check())
