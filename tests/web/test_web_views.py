"""The page in Chromium: lists, views, history, and who can use them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from page_aids import choose, visit
from playwright.async_api import Browser, Page, expect
from web_aids import put, stored

from browsers import chromium
from chatsession import SessionManager
from chatsession.cli._screen import duration
from chatsession.storages import Storage
from chatsession.storages.inspection import size_text
from chatsession.storages.sqlite import SQLiteStorage
from chatsession.web import Inspector, _sessions, inspecting

ISO = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d")


async def search(page: Page, *, text: str = "", value: str = "") -> None:
    await page.fill("#text", text)
    await page.fill("#value", value)
    await page.press("#text", "Enter")
    await expect(page.locator("#found")).not_to_have_text("Searching…")


async def test_a_list_is_found_sorted_and_opened(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"42": b'{"step":"ask"}', "424": b'{"text":"' + b"x" * 3000 + b'"}'})
    await put(bot, {"5": b"1"}, ttl=7200)
    page, wrong = await visit(browser, inspector.invite())
    await expect(page.locator("#keys li")).to_have_text(["4214 B", re.compile("4242.9 KiB"), "51 B, expires in 2 h"])
    await page.select_option("#order", "largest")
    await expect(page.locator("#keys bdi")).to_have_text(["424", "42", "5"])
    await page.select_option("#order", "")
    await search(page, text="42")
    await expect(page.locator("#key")).to_have_text("42")
    await search(page, text="no such")
    await expect(page.locator("#found")).to_have_text("There is no session with this prefix.")
    await search(page, value="step=ask")
    await expect(page.locator("#keys bdi")).to_have_text(["42"])
    await search(page, value="nothing like it")
    await expect(page.locator("#found")).to_have_text("No session has this value.")
    assert wrong == []


async def test_back_steps_through_sessions(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"1": b"1", "2": b"2", "k" * 5000: b"3"})
    page, wrong = await visit(browser, inspector.invite())
    for key in ("1", "2", "k" * 5000):
        await page.locator("#keys button").filter(has_text=key[:9]).first.click()
        await expect(page.locator("#session")).to_be_visible()
        await expect(page.locator("#key")).to_have_text(re.compile(f"^{key[:9]}"))
    await page.click("#show-statistics")
    for key in ("2", "1"):
        await page.go_back()
        await expect(page.locator("#key")).to_have_text(key)
        await expect(page.locator("#session")).to_be_visible()
    await page.go_forward()
    await expect(page.locator("#key")).to_have_text("2")
    await page.go_forward()
    await page.reload()
    await expect(page.locator("#key")).to_have_text(re.compile("^kkk"))
    assert wrong == []


async def test_back_keeps_what_is_not_saved(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"1": b"1", "2": b"2"})
    page, asked = await visit(browser, inspector.invite())
    for key in ("1", "2"):
        await choose(page, key)
        await expect(page.locator("#key")).to_have_text(key)
    await page.click("#edit")
    await page.fill("#draft", "22")
    page.on("dialog", lambda dialog: dialog.dismiss())
    async with page.expect_event("dialog"):
        await page.evaluate("history.back()")
    await expect(page.locator("#draft")).to_have_value("22")
    await page.wait_for_function("location.hash === '#2'")
    assert len(asked) == 1
    await expect(page.locator("#key")).to_have_text("2")


async def test_on_a_phone_the_chosen_session_comes_into_view(
    bot: Storage, browser: Browser, inspector: Inspector
) -> None:
    await put(bot, {f"chat:{number}": b'{"count":1}' for number in range(20)})
    page, _ = await visit(browser, inspector.invite())
    await page.set_viewport_size({"width": 390, "height": 600})
    keys = page.locator("#keys button")
    await expect(keys).to_have_count(20)
    await keys.first.click()
    await expect(page.locator("#tree")).to_be_in_viewport()


async def test_when_a_session_expires_is_shown_and_set(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"42": b"1"})
    page, wrong = await visit(browser, inspector.invite())
    await choose(page, "42")
    await page.click("#expire")
    await page.fill("#lifetime", "2")
    await page.select_option("#unit", "days")
    await page.click("#expiry button.good")
    await expect(page.locator("#about")).to_contain_text(ISO)
    await expect(page.locator("#seen-changes")).to_contain_text("expiry changed")
    (record,) = await bot.read_many(["42"])
    assert record.expires_at == pytest.approx(time.time() + 2 * 86400, abs=300)  # type: ignore[union-attr]
    await page.click("#toast-undo")
    await expect(page.locator("#about")).not_to_contain_text("expires")
    assert wrong == []


async def test_a_session_is_copied_and_downloaded(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"../a b": b'{"n":1}', "raw": b"\xff\x00"})
    page, wrong = await visit(browser, inspector.invite())
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for key, name, content in (("../a b", "_a_b.json", b'{\n  "n": 1\n}'), ("raw", "raw.bin", b"\xff\x00")):
        await choose(page, key)
        await expect(page.locator("#key")).to_have_text(key)
        async with page.expect_download() as download:
            await page.click("#download")
        found = await download.value
        assert found.suggested_filename == name
        assert await asyncio.to_thread((await found.path()).read_bytes) == content
    await page.click("#copy")
    await expect(page.locator("#toast-text")).to_have_text("Copied.")
    assert await page.evaluate("navigator.clipboard.readText()") == "ff 00"
    assert wrong == []


async def test_what_changed_is_told_by_field(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"42": b'{"pizzas":1,"cart":[{"size":30}],"old":true}'})
    page, wrong = await visit(browser, inspector.invite())
    await choose(page, "42")
    await expect(page.locator("#tree")).to_contain_text("pizzas")
    await put(bot, {"42": b'{"pizzas":2,"cart":[{"size":40}],"step":"ask"}'})
    told = page.locator("#seen-changes li").first
    await expect(told).to_contain_text('pizzas: 1 → 2; cart.0.size: 30 → 40; old removed: true; step added: "ask"')
    await expect(told).to_contain_text(ISO)
    assert wrong == []


async def test_a_conflict_is_shown_by_field(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"42": b'{"pizzas":1,"name":"Ann","cart":[1]}'})
    page, _ = await visit(browser, inspector.invite())
    await choose(page, "42")
    await page.click("#edit")
    await page.fill("#draft", '{"name": "Ann", "pizzas": 20, "cart": [1, 2]}')
    await put(bot, {"42": b'{"pizzas":10,"name":"Ann","cart":[1]}'})
    await page.click("#save")
    rows = page.locator("#differences tbody tr")
    await expect(rows).to_have_text(["pizzas1020", "cart.1(not there)2"])
    await page.fill("#draft", "not JSON")
    await expect(page.locator("#differences")).to_be_hidden()
    await expect(page.locator("#theirs")).to_contain_text('"pizzas": 10')


async def test_saving_says_that_it_waits(
    bot: Storage, browser: Browser, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sessions, "LOCK_TIMEOUT", 100)
    await put(bot, {"42": b"1"})
    page, wrong = await visit(browser, inspector.invite())
    await choose(page, "42")
    await page.click("#edit")
    await page.fill("#draft", "2")
    async with SessionManager(int, storage=bot) as bots, bots.open("42"):
        await page.click("#save")
        await expect(page.locator("#waiting")).to_contain_text("The bot is at work on this session")
    await expect(page.locator("#toast-text")).to_have_text("Saved.")
    await expect(page.locator("#waiting")).to_have_text("")
    assert await stored(bot, "42") == b"2"
    assert wrong == []


async def test_locks_and_problems_have_views(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"1": b"1", "torn": b'{"a":'})
    page, wrong = await visit(browser, inspector.invite())
    await page.click("#show-problems")
    await expect(page.locator("#looked")).to_have_text("Looked at 2 sessions: 1 problem.")
    await expect(page.locator("#problem-list tbody")).to_contain_text("torn")
    await page.click("#show-locks")
    await expect(page.locator("#locked")).to_have_text("0 sessions locked now.")
    async with SessionManager(int, storage=bot) as bots, bots.open("1"):
        await expect(page.locator("#locked")).to_have_text("1 session locked now.")
        await expect(page.locator("#lock-list tbody")).to_contain_text(f"process {os.getpid()}")
    await expect(page.locator("#locked")).to_have_text("0 sessions locked now.")
    await page.click("#show-problems")
    await page.click("#problem-list button")
    await expect(page.locator("#key")).to_have_text("torn")
    assert wrong == []


async def test_every_change_can_be_undone_from_its_view(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"1": b"1", "2": b"2"})
    page, wrong = await visit(browser, inspector.invite())
    for key in ("1", "2"):
        await choose(page, key)
        await expect(page.locator("#key")).to_have_text(key)
        await page.click("#delete")
        await expect(page.locator("#toast-text")).to_have_text(f"Deleted {key}.")
    await page.click("#toast-close")
    await expect(page.locator("#toast-text")).to_have_text("")
    await page.click("#show-changes")
    rows = page.locator("#change-list tbody tr")
    await expect(rows).to_have_count(2)
    await rows.nth(1).get_by_role("button", name="Undo").click()
    await expect(rows.first).to_contain_text("put back")
    assert (await stored(bot, "1"), await stored(bot, "2")) == (b"1", None)
    await page.keyboard.press("Escape")
    await expect(page.locator("#toast-text")).to_have_text("")
    assert wrong == []


async def test_plots_have_units_and_a_legend(bot: Storage, browser: Browser, inspector: Inspector) -> None:
    await put(bot, {"1": b"1"})
    page, wrong = await visit(browser, inspector.invite())
    await page.click("#show-statistics")
    for plot, words in {
        "counts": ("sessions", "time"),
        "histogram": ("sessions", "size of a session"),
        "latencies": ("ms", "time", "read", "commit"),
    }.items():
        for word in words:
            await expect(page.locator(f"#{plot} svg text").filter(has_text=re.compile(f"^{word}$"))).to_be_visible()
    assert wrong == []


async def test_sizes_and_times_are_written_as_in_the_command_line(browser: Browser, inspector: Inspector) -> None:
    page, _ = await visit(browser, inspector.invite())
    sizes = [0, 1, 1023, 1024, 1500, 1024**2, 10**9, 5 * 1024**3, 1024**5]
    times = [0.5, 1, 59, 60, 3600, 90_000, 1e7]
    told = await page.evaluate(
        "async ([sizes, times]) => { const {bytes, duration} = await import('/static/dom.js');"
        " return [sizes.map(bytes), times.map(duration)]; }",
        [sizes, times],
    )
    assert told == [[size_text(number) for number in sizes], [duration(seconds) for seconds in times]]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_axe_finds_nothing(scheme: str, width: int, bot: Storage, file: Path) -> None:
    await put(bot, {"42": json.dumps({"pizzas": 1, "cart": [{"size": 30, "paid": True, "by": None}]}).encode()})
    await put(bot, {"43": b'{"a":', "44": b"1"}, ttl=1000)
    async with chromium() as browser, inspecting(SQLiteStorage(file)) as inspector:
        context = await browser.new_context(
            bypass_csp=True,
            color_scheme=scheme,
            viewport={"width": width, "height": 900},  # type: ignore[arg-type]
        )
        context.set_default_timeout(120_000)
        page = await context.new_page()

        async def check(place: str) -> None:
            results = await Axe().run(page)
            assert results.response["violations"] == [], f"{place}: {results.generate_report()}"

        await page.goto(inspector.invite())
        await choose(page, "42")
        await page.click("#expire")
        await check("session")
        await page.click("#edit")
        await page.fill("#draft", '{"pizzas": 2}')
        await put(bot, {"42": b'{"pizzas":3}'})
        await page.click("#save")
        await expect(page.locator("#differences")).to_be_visible()
        await check("conflict")
        await page.click("#keep-mine")
        await expect(page.locator("#toast-undo")).to_be_visible()
        async with SessionManager(int, storage=bot) as bots, bots.open("44"):
            await page.click("#show-locks")
            await expect(page.locator("#lock-list")).to_be_visible()
            await check("locks")
        for name, shown in {"problems": "problem-list", "changes": "change-list", "statistics": "figures div"}.items():
            await page.click(f"#show-{name}")
            await expect(page.locator(f"#{shown}").first).to_be_visible()
            await check(name)
        await page.goto(f"http://127.0.0.1:{inspector.port}/enter?token=wrong")
        await check("closed")
