"""Who is let in, and what every answer says to the browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from web_aids import Visitor

from chatsession.storages.sqlite import SQLiteStorage
from chatsession.web import inspecting
from chatsession.web._server import described


@pytest.fixture
async def stranger(visitor: Visitor) -> httpx.AsyncClient:
    """A browser without the cookie."""
    return httpx.AsyncClient(base_url=visitor.origin, trust_env=False)


async def test_without_the_cookie_there_is_nothing_to_see(stranger: httpx.AsyncClient, visitor: Visitor) -> None:
    async with stranger:
        page = await stranger.get("/")
        asked = await stranger.post(
            "/api/find", content="{}", headers={"origin": visitor.origin, "content-type": "application/json"}
        )
    assert (page.status_code, asked.status_code) == (401, 401)
    assert "token" in page.text


async def test_an_address_opens_once(file: Path) -> None:
    async with inspecting(SQLiteStorage(file)) as inspector:
        address = inspector.invite()
        first, second = Visitor(inspector), Visitor(inspector)
        async with first.http, second.http:
            entered = await first.enter(address)
            refused = await second.enter(address)
            assert entered.status_code == 200
            cookie = entered.headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie
            assert (await first.ask("about"))[0] == 200
            assert refused.status_code == 403
            assert "used already" in refused.text
            assert (await second.http.get("/")).status_code == 401


@pytest.mark.parametrize("token", ["", "wrong", "é\0", "a" * 5000])
async def test_a_wrong_token_opens_nothing(token: str, visitor: Visitor, stranger: httpx.AsyncClient) -> None:
    async with stranger:
        refused = await stranger.get("/enter", params={"token": token})
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers


async def test_a_look_at_the_headers_does_not_use_the_address_up(file: Path) -> None:
    async with inspecting(SQLiteStorage(file)) as inspector:
        address = inspector.invite()
        visitor = Visitor(inspector)
        async with visitor.http:
            await visitor.http.head(address)
            assert (await visitor.enter(address)).status_code == 200


async def test_another_browser_is_let_in_by_one_that_is_in(visitor: Visitor, stranger: httpx.AsyncClient) -> None:
    _, invitation = await visitor.ask("invite")
    async with stranger:
        await stranger.get(invitation["address"])
        assert (await stranger.get("/")).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", ""])
async def test_a_name_that_leads_here_is_not_enough(host: str, visitor: Visitor) -> None:
    port = visitor.origin.rpartition(":")[2]
    answer = await visitor.http.get("/", headers={"host": host.format(port=port)})
    assert answer.status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
)
async def test_a_foreign_page_cannot_ask(headers: dict[str, str], visitor: Visitor) -> None:
    answer = await visitor.post("find", {}, **headers)
    assert answer.status_code == 403


async def test_nothing_is_changed_by_a_link(visitor: Visitor) -> None:
    for name in ("write", "delete", "undo", "invite"):
        assert (await visitor.http.get(f"/api/{name}")).status_code == 405


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/nothing.js", "/static/../_guard.py", "/api/find"])
async def test_every_answer_forbids_foreign_code(path: str, visitor: Visitor) -> None:
    answer = await visitor.http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "_guard" not in answer.text


def test_the_page_makes_no_html_of_text_and_asks_nobody_else() -> None:
    static = Path(__file__).parents[2] / "src/chatsession/web/static"
    for file in static.iterdir():
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            file
        )
        foreign = set(re.findall(r"https?://[^\s\"'`<>)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not foreign, file
        assert not re.search(r"<script>|\son\w+=|\sstyle=", text), file


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///bot.db?synchronous=full", "sqlite:///bot.db"),
        ("sqlite:////srv/a@b/bot.db", "sqlite:////srv/a@b/bot.db"),
        ("redis://user:secret@host:6379/0", "redis://host:6379/0"),
        ("postgresql://user:se/c?r@et@host/db?sslmode=require", "postgresql://host/db"),
        ("redis://host/0?password=secret", "redis://host/0"),
        ("memory:", "memory:"),
    ],
)
def test_the_storage_is_named_without_its_password(url: str, name: str) -> None:
    assert described(url) == name
